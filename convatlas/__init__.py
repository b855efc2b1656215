"""convatlas: an atlas of convolutional networks for image classification, each exact to its paper."""
