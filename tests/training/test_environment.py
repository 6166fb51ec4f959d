"""A record says where it comes from."""

import re

from training.environment import environment, hardware_name


def test_a_measurement_can_be_repeated_from_its_environment() -> None:
    """Commit, command and versions are those of this process."""
    found = environment("benchmarks.pruning", ["--record", "a folder"])

    assert re.fullmatch(r"unknown|[0-9a-f]{12}(\+changes)?", found["commit"])
    assert found["command"] == "python -m benchmarks.pruning --record 'a folder'"
    assert found["versions"].keys() == {"python", "torch", "numpy"}


def test_hardware_has_a_name_that_fits_into_a_file_name() -> None:
    """Trademarks and clock rates are left out."""
    found = environment("benchmarks.pruning", [])
    found["cpu"], found["cores"] = "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", 2

    assert hardware_name(found) == "intel-xeon-gold-6338-cpu-2-cores"
