"""The folder of a run: what begins it, what refuses to, and what is listed in it."""

import dataclasses
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch

from pauc_hub.errors import OutputExists, PaucError, TrainingFailed, UsageError
from pauc_hub.training.config import Config
from pauc_hub.training.run import checkpoint, checkpoint_files, run_folder

CONFIG = Config(epochs=3).resolve(1000)


def test_a_run_begins_with_its_config(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "first"
    run_folder.begin(run, CONFIG, overwrite=False)
    assert [path.name for path in run.iterdir()] == ["config.json"]
    assert run_folder.saved_config(run) == CONFIG
    assert (run / "config.json").read_text().endswith('"seed": 0\n}\n')


def stand(run: Path, *names: str) -> None:
    """Parts of an older run."""
    for name in names:
        match name:
            case "checkpoints":
                checkpoint_files.put(run, (1, 0), {"x": torch.zeros(1)}, {})
            case "model":
                (run / name).mkdir()
                (run / name / "config.json").write_text("old")
            case _:
                (run / name).write_text("old")


@pytest.mark.parametrize(
    "name", ["config.json", "metrics.jsonl", "unreadable.txt", "checkpoints", "model"]
)
def test_a_run_that_stands_there_is_touched_only_with_overwrite(tmp_path: Path, name: str) -> None:
    stand(tmp_path, name)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputExists) as refused:
        run_folder.begin(tmp_path, CONFIG, overwrite=False)
    assert str(refused.value) == (
        f"'{tmp_path}' already holds a run. "
        "Go on with resume=True, start anew with overwrite=True, or give another folder."
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "notes.txt"])
    run_folder.begin(tmp_path, CONFIG, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "notes.txt"]
    assert run_folder.saved_config(tmp_path) == CONFIG


def opened(
    run: Path,
    *,
    config: Config = CONFIG,
    resume: bool = False,
    overwrite: bool = False,
    restarted: bool = False,
) -> AbstractContextManager[object]:
    return run_folder.open_run(
        run, config, "abc", resume=resume, overwrite=overwrite, restarted=restarted, quiet=True
    )


@pytest.fixture
def any_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every checkpoint will do, whatever is in it."""

    def read_place(run: Path, images: str, *, quiet: bool) -> object:
        return (run, images, quiet) if checkpoint_files.standing(run) else None

    monkeypatch.setattr(checkpoint, "read_place", read_place)


@pytest.mark.usefixtures("any_place")
def test_a_restarted_command_goes_on_with_the_run_that_it_began(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with opened(run, restarted=True) as place:
        assert place is None  # it had begun nothing
    with opened(run, restarted=True) as place:
        assert place is None  # nothing was saved yet
    stand(run, "checkpoints")
    with pytest.raises(OutputExists, match="already holds a run"), opened(run):
        pass
    with (
        pytest.raises(OutputExists, match="already holds a run"),
        # somebody else's
        opened(run, config=dataclasses.replace(CONFIG, epochs=4), restarted=True),
    ):
        pass
    for restarted in (True, False):
        with opened(run, restarted=restarted, resume=not restarted) as place:
            assert place == (run, "abc", True)
    assert run_folder.saved_config(run) == CONFIG


def test_a_folder_of_other_files_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    run_folder.begin(tmp_path, CONFIG, overwrite=False)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError) as refused:
        run_folder.begin(tmp_path / "file", CONFIG, overwrite=False)
    assert (
        str(refused.value)
        == f"'{tmp_path / 'file'}' could not be written (File exists). Give another folder."
    )


@pytest.mark.parametrize("size", [0, 10, 100])
def test_a_disk_full_at_the_start_leaves_no_run(
    tmp_path: Path, files_of_at_most: Any, size: int
) -> None:
    with files_of_at_most(size), pytest.raises(UsageError) as refused:
        run_folder.begin(tmp_path, CONFIG, overwrite=False)
    assert (
        str(refused.value)
        == f"'{tmp_path}' could not be written (File too large). Give another folder."
    )
    assert list(tmp_path.iterdir()) == []


EVERYTHING = ("config.json", "metrics.jsonl", "unreadable.txt", "checkpoints", "model")


def test_a_crash_while_a_run_is_overwritten_mixes_no_two_runs(
    tmp_path: Path, dying_at: Any
) -> None:
    touch, found = -1, set()
    while True:
        touch += 1
        run = tmp_path / str(touch)
        run.mkdir()
        stand(run, *EVERYTHING)
        with dying_at(touch) as touches:
            run_folder.begin(run, CONFIG, overwrite=True)
        names = {path.name for path in run.iterdir() if not path.name.startswith(".")}
        config = (run / "config.json").read_text() if "config.json" in names else None
        match config:
            case None:
                found.add("none")
                with pytest.raises(UsageError, match=r"has lost its config.json|holds no run"):
                    run_folder.saved_config(run)
            case "old":
                found.add("old")
                assert names == set(EVERYTHING)
            case _:
                found.add("new")
                assert names == {"config.json"}
                assert run_folder.saved_config(run) == CONFIG
        with opened(run, overwrite=True):
            assert [path.name for path in run.iterdir()] == ["config.json"]
        if touches[0] <= touch:
            break
    assert found == {"none", "old", "new"}


def test_a_run_without_its_config_cannot_go_on(tmp_path: Path) -> None:
    stand(tmp_path, "checkpoints")
    with pytest.raises(UsageError) as refused:
        run_folder.saved_config(tmp_path)
    assert str(refused.value) == (
        f"nothing to resume: '{tmp_path}' has lost its config.json. Start anew with overwrite=True."
    )


@pytest.mark.usefixtures("any_place")
def test_a_finished_run_without_checkpoints_is_not_begun_again(tmp_path: Path) -> None:
    stand(tmp_path, "config.json", "model")
    with pytest.raises(UsageError) as refused, opened(tmp_path, resume=True):
        pass
    assert str(refused.value) == (
        f"nothing to resume: '{tmp_path}' is finished, and its checkpoints are gone. Start anew "
        "with overwrite=True."
    )
    stand(tmp_path, "checkpoints")
    with opened(tmp_path, resume=True):
        pass


@pytest.mark.usefixtures("any_place")
def test_one_process_alone_trains_into_a_folder(tmp_path: Path) -> None:
    for resume in (True, False):
        run = tmp_path / str(resume)
        with opened(run):
            stand(run, "checkpoints")
            with (
                pytest.raises(PaucError) as refused,
                opened(run, resume=resume, overwrite=not resume),
            ):
                pass
            assert (
                str(refused.value)
                == f"another process is training into '{run}'. Wait for it, or give another folder."
            )
            assert len(checkpoint_files.standing(run)) == 1
        with opened(run, resume=resume, overwrite=not resume):
            pass


@pytest.mark.parametrize("resume", [False, True])
def test_what_killed_processes_left_half_done_is_removed(tmp_path: Path, resume: bool) -> None:
    mine = [".model", ".model.notes", ".config.json.0123456", "model.01234567"]
    for name in (
        ".config.json.01234567",
        ".curves.png.aaaaaaaa",
        ".metrics.jsonl.89abcdef",
        ".unreadable.txt.00000000",
        *mine,
    ):
        (tmp_path / name).write_text("half")
    (tmp_path / ".model.fedcba98").mkdir()
    (tmp_path / ".model.fedcba98" / "model.safetensors").write_text("half")
    if resume:
        run_folder.begin(tmp_path, CONFIG, overwrite=False)
    with opened(tmp_path, resume=resume):
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*mine, "config.json"])


def test_there_is_nothing_to_resume_where_nothing_began(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        run_folder.saved_config(tmp_path)
    assert (
        str(refused.value)
        == f"nothing to resume: '{tmp_path}' holds no run. Start without resume=True."
    )


def test_overwriting_takes_what_shows_a_run_and_nothing_else(tmp_path: Path) -> None:
    run_folder.begin(tmp_path, CONFIG, overwrite=False)
    (tmp_path / "tensorboard").mkdir()
    ours = ["curves.png", "wandb_id.txt", "tensorboard/events.out.tfevents.1.host"]
    others = ["tensorboard/notes.txt", "other.png"]
    for name in ours + others:
        (tmp_path / name).write_text("x")
    run_folder.begin(tmp_path, CONFIG, overwrite=True)
    assert [name for name in ours if (tmp_path / name).exists()] == []
    assert all((tmp_path / name).exists() for name in others)


def test_unreadable_images_are_listed_with_their_reasons(tmp_path: Path) -> None:
    names = ["a.png", "b.png", "c\n.png", "d.png"]
    run_folder.list_unreadable(tmp_path, {2: "damaged", 0: "the file has no bytes \udcff"}, names)
    assert (
        tmp_path / "unreadable.txt"
    ).read_text() == "a.png\tthe file has no bytes \\udcff\nc\\n.png\tdamaged\n"


def test_there_is_no_list_where_all_images_can_be_read(tmp_path: Path) -> None:
    run_folder.list_unreadable(tmp_path, {}, ["a.png"])
    run_folder.list_unreadable(tmp_path, {0: "damaged"}, ["a.png"])
    run_folder.list_unreadable(tmp_path, {}, ["a.png"])  # it was repaired between two sittings
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 5])
def test_a_list_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, files_of_at_most: Any, size: int
) -> None:
    run_folder.list_unreadable(tmp_path, {0: "damaged"}, ["a.png", "b.png"])
    with files_of_at_most(size), pytest.raises(TrainingFailed) as failed:
        run_folder.list_unreadable(tmp_path, {0: "damaged", 1: "damaged"}, ["a.png", "b.png"])
    assert str(failed.value) == (
        f"'{tmp_path / 'unreadable.txt'}' could not be written (File too large). "
        "What was saved before still stands: resume=True."
    )
    assert (tmp_path / "unreadable.txt").read_text() == "a.png\tdamaged\n"
    assert [path.name for path in tmp_path.iterdir()] == ["unreadable.txt"]
