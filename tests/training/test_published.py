"""Published semantic IDs: read as they are, checked, and complete for the catalog."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from model.errors import ModelError
from tests.training.recipes import recipe_file, run_of
from training import steps
from training.data_config import QuantizerConfig
from training.published import published_sids, read_published

TABLE = "item_id\tc1\tc2\n007\t3\t0\nb\t3\t0\nc\t1\t2\n"


def config_of(folder: Path, table: str = TABLE, **settings: object) -> QuantizerConfig:
    """A quantizer that reads a small table."""
    path = folder / "published_sids.tsv.gz"
    path.write_bytes(gzip.compress(table.encode()))
    return QuantizerConfig.model_validate({"kind": "published", "file": path, **settings})


def test_the_codes_are_those_of_the_table(tmp_path: Path) -> None:
    """In catalog order, whatever the table's; sizes are what the codes need; no codebooks."""
    found = published_sids(config_of(tmp_path), ["c", "b", "007"], None)

    assert found.codes.tolist() == [[1, 2], [3, 0], [3, 0]]
    assert found.codebook_sizes == (4, 3)
    assert (found.codebooks, found.notes) == ([], ())


def test_a_recipe_may_ask_for_larger_codebooks(tmp_path: Path) -> None:
    """Room for codes that a later table brings."""
    config = config_of(tmp_path, codebook_sizes=(256, 256))

    assert published_sids(config, ["c"], None).codebook_sizes == (256, 256)


@pytest.mark.parametrize("sizes", [(4,), (4, 2), (4, 3, 1)])
def test_codebooks_that_cannot_hold_the_codes_are_refused(
    tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    """The message says how large they must be."""
    config = config_of(tmp_path, codebook_sizes=sizes)

    with pytest.raises(ModelError, match=r"at least \[4, 3\], but \[quantizer\] says"):
        published_sids(config, ["c", "b"], None)


def test_collisions_may_get_a_suffix(tmp_path: Path) -> None:
    """As with fitted codes: the popular item of a bucket comes first."""
    config = config_of(tmp_path, collisions="suffix")

    found = published_sids(config, ["007", "b", "c"], None, np.array([1, 5, 0]))

    assert found.codes[:, 2].tolist() == [1, 0, 0]
    assert found.codebook_sizes == (4, 3, 2)


def test_items_that_the_table_lacks_are_named(tmp_path: Path) -> None:
    """How many, and the first few."""
    with pytest.raises(ModelError, match=r"2 of 3 catalog items have no semantic ID \('x', 'y'\)"):
        published_sids(config_of(tmp_path), ["x", "c", "y"], None)


def test_items_that_the_table_lacks_may_join_the_nearest(tmp_path: Path) -> None:
    """By cosine; a note counts them, and the table's items that the catalog lacks."""
    config = config_of(tmp_path, unpublished_items="nearest")
    vectors = np.array([[9, 1], [1, 0], [0, 3], [1, 8]], dtype=np.float32)

    found = published_sids(config, ["x", "c", "b", "y"], vectors)

    assert found.codes.tolist() == [[1, 2], [1, 2], [3, 0], [3, 0]]
    assert "2 of 4 catalog items have no semantic ID ('x', 'y')" in found.notes[0]
    assert "1 items are not in the catalog" in found.notes[1]


def test_ids_of_another_data_set_are_refused(tmp_path: Path) -> None:
    """Nothing is near to anything when no item has a semantic ID."""
    config = config_of(tmp_path, unpublished_items="nearest")

    with pytest.raises(ModelError, match="check that the ids are those of the data"):
        published_sids(config, [str(n) for n in range(7)], np.eye(7, dtype=np.float32))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("item_id\tc2\na\t1\n", "column c1 is missing"),
        ("item_id\tc1\na\t1\nb\tx\n", "line 3: c1 is no whole number from 0 to 65535"),
        ("item_id\tc1\tc2\na\t1\t-1\nb\t0\t\n", r"line 2: c2 is no whole .* \(and 1 more such"),
        ("item_id\tc1\na\t1\na\t2\n", "line 3: item_id 'a' stands there again"),
        ("item_id\tc1\n\t1\n", "line 2: item_id is empty"),
    ],
)
def test_a_faulty_table_is_refused(tmp_path: Path, table: str, message: str) -> None:
    """With the line and what to do."""
    path = config_of(tmp_path, table).file
    assert path is not None

    with pytest.raises(ModelError, match=message):
        read_published(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "published"}, 'needs file = "path/to/published_sids.tsv"'),
        ({"file": "sids.tsv"}, "file is only read with"),
    ],
)
def test_a_contradictory_quantizer_is_refused(settings: dict[str, str], message: str) -> None:
    """Said when the recipe is read."""
    with pytest.raises(ValidationError, match=message):
        QuantizerConfig.model_validate(settings)


def published_recipe(folder: Path, table: str, extra: str = "") -> Path:
    """The tiny recipe with a published table of its thirty items."""
    (folder / "sids.tsv").write_text(table)
    path = recipe_file(folder)
    new = f'kind = "published"\nfile = "{folder / "sids.tsv"}"\n{extra}'
    text = path.read_text().replace("codebook_sizes = [4, 4]\nnum_iterations = 3\n", new)
    path.write_text(text)
    return path


def test_a_run_takes_published_ids_and_notices_a_changed_table(tmp_path: Path) -> None:
    """The step writes the table's codes; other content of the same file is another result."""
    rows = "".join(f"i{n}\t{n // 8}\t{n % 8}\t{n % 2}\n" for n in range(30))
    run = run_of(tmp_path, published_recipe(tmp_path, f"item_id\tc1\tc2\tc3\n{rows}"))
    steps.prepare(run)
    steps.quantize(run)
    before = run.stamp("quantize")
    semantics = run.read_semantics(np.zeros(30, dtype=np.int64))

    (tmp_path / "sids.tsv").write_text(
        "item_id\tc1\tc2\tc3\n" + "".join(rows).replace("\t7", "\t9")
    )
    steps.quantize(run)

    assert semantics.sids.codes.tolist() == [[n // 8, n % 8, n % 2] for n in range(30)]
    assert semantics.placement.codebooks == ()
    assert run.stamp("quantize") != before


def test_a_run_places_unpublished_items_by_their_text(tmp_path: Path) -> None:
    """Of each of the four kinds of things only the first is published."""
    table = "item_id\tc1\n" + "".join(f"i{n}\t{n}\n" for n in range(4))
    run = run_of(tmp_path, published_recipe(tmp_path, table, 'unpublished_items = "nearest"\n'))
    steps.prepare(run)

    steps.quantize(run)

    codes = run.read_semantics(np.zeros(30, dtype=np.int64)).sids.codes[:, 0]
    assert np.mean(codes == np.arange(30) % 4) > 0.5  # by chance a quarter
