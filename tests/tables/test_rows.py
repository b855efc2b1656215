"""The shipped tables are small, and lose nothing."""

from convatlas import tables
from convatlas.accounting.rows import Row
from convatlas.tables.rows import COLUMNS, read, write

CONV = Row("stages.a.conv", "Conv2d", (8, 4, 4), (3, 3), (1, 1), (0, 0), weights=72, macs=1152, activations=128)
ROWS = (
    CONV._replace(backward_macs=2304, block="stages", block_op="Block"),
    Row("stages.a.bn", "BatchNorm2d", (8, 4, 4), weights=8, biases=8, activations=128, pointwise=True),
    CONV._replace(kernel=(1, 7), stride=(2, 2), padding="same", groups=4, receptive_field=(3, 9), start=(0, -3)),
    CONV._replace(path="b.conv", jump=(0, 0), exact=True, block="b", block_op="Block", backward_macs=1),
    Row("relu", "ReLU", (10,), pointwise=True, activations=0),
    Row("shift", "BatchNorm2d", (8, 4, 4), biases=8, activations=128, pointwise=True),
    Row("scale", "BatchNorm2d", (8, 4, 4), weights=8, macs=7, activations=128, pointwise=True),
    Row("pool", "Pool", (8, 2, 2), weights=8, biases=8, activations=32),  # LeNet-5's: a coefficient a map
    Row("linear", "Linear", (10,), weights=80, macs=80, activations=10, backward_macs=160),
    Row("stages.relu", "ReLU", (), pointwise=True, activations=1, block="stages", block_op="Other"),
)


def test_rows_are_read_as_they_were_written() -> None:
    assert read(write(ROWS)) == ROWS
    assert read(write([])) == ()
    assert write(ROWS).splitlines()[0] == ",".join(COLUMNS)
    assert len(write(ROWS).splitlines()) == 1 + len(ROWS)


def test_what_follows_from_the_row_above_or_from_the_row_is_left_out() -> None:
    assert write([ROWS[0], ROWS[1]._replace(block="stages", block_op="Block")]).splitlines()[1:] == [
        "stages:a.conv,Conv2d,,72,,8x4x4,,3,,,,,,,,Block",
        ".bn,BatchNorm2d,y,8",
    ]


def test_the_shipped_tables_are_small() -> None:
    assert sum(file.stat().st_size for file in tables.FOLDER.glob("*.[cj]s*")) <= 4_000_000
