"""Problems of a data set: files that are not complete images (bad), and findings about the images (scan)."""
