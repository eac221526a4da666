"""What six nodes that hold everything pay for what serves many that hold parts."""

from benchmarks import bands, six


def test_six_that_hold_everything_pay_next_to_nothing_for_meshes_of_many() -> None:
    figures = six.run(quick=True).figures
    assert figures["six_overhead_ratio"].value <= bands.COUNTED["six_overhead_ratio"]
