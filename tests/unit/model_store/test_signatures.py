"""A checkpoint is unpickled by the run that has written it, and by no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aisandbox_model_store import CheckpointKey, Damaged, Published, RunFolder, is_signed
from aisandbox_model_store.manifest import describe_folder
from aisandbox_model_store.signatures import SIGNATURE, signed

OWN, OTHER = CheckpointKey(b"a" * 32), CheckpointKey(b"b" * 32)
BEGUN_BEFORE = replace(OWN, accepts_unsigned=True)


def save(run: RunFolder, key: CheckpointKey | None, timesteps: int = 100, data: bytes = b"state") -> Published:
    return run.claim(None, "", key).publish_checkpoint(
        timesteps, lambda f: _discard((f / "state.pkl").write_bytes(data))
    )


def _discard(_written: int) -> None:
    pass


def foreign(published: Published, manifest: Callable[[Path], bytes]) -> None:
    """Another pickle, and the manifest that who puts it there can make."""
    (published.path / "manifest.json").unlink()
    (published.path / "state.pkl").write_bytes(b"code")
    (published.path / "manifest.json").write_bytes(manifest(published.path))


def described(folder: Path, details: dict[str, str] | None = None) -> bytes:
    return describe_folder(folder, "checkpoint", 200, details or {}).to_bytes()


def test_checkpoint_is_read_with_the_key_it_was_signed_with(run: RunFolder) -> None:
    published = save(run, OWN)
    assert is_signed(published.manifest)
    found = run.newest_checkpoint(key=OWN)
    assert found is not None
    assert found.digest == published.digest
    assert run.read(found, "state.pkl") == b"state"
    assert run.newest_checkpoint() == found, "what has no key reads it as before"


@pytest.mark.parametrize(
    "manifest",
    [
        lambda folder: described(folder),
        lambda folder: described(folder, {SIGNATURE: "0" * 64}),
        lambda folder: described(folder, {SIGNATURE: "ü"}),
        lambda folder: signed(describe_folder(folder, "checkpoint", 200, {}), OTHER).to_bytes(),
    ],
    ids=["unsigned", "invented", "no digest", "of another run"],
)
def test_checkpoint_of_somebody_else_is_set_aside_and_an_older_one_is_used(
    run: RunFolder, manifest: Callable[[Path], bytes]
) -> None:
    older = save(run, OWN)
    foreign(save(run, OWN, 200), manifest)
    reasons: list[str] = []
    found = run.newest_checkpoint(lambda name, reason: reasons.append(f"{name}: {reason}"), OWN)
    assert found is not None
    assert found.digest == older.digest
    assert len(reasons) == 1
    assert reasons[0].startswith("200: ")
    assert "manifest.json" in reasons[0]
    (aside,) = run.checkpoints_path.glob("damaged-200-*")
    assert reasons[0].endswith((aside / "reason.txt").read_text().strip())


def test_signature_of_one_checkpoint_is_not_one_for_others(run: RunFolder) -> None:
    published = save(run, OWN, 200)
    foreign(published, lambda folder: described(folder, {SIGNATURE: published.manifest.details[SIGNATURE]}))
    assert run.newest_checkpoint(key=OWN) is None


def test_checkpoints_without_a_digest_are_read_by_runs_that_began_before_keys(run: RunFolder) -> None:
    published = save(run, None)
    found = run.newest_checkpoint(key=BEGUN_BEFORE)
    assert found is not None
    assert found.digest == published.digest
    foreign(
        save(run, OTHER, 200), lambda folder: signed(describe_folder(folder, "checkpoint", 200, {}), OTHER).to_bytes()
    )
    again = run.newest_checkpoint(key=BEGUN_BEFORE)
    assert again == found, "a wrong digest is refused there too"
    assert run.newest_checkpoint(key=OWN) is None


def test_file_that_is_replaced_after_it_was_verified_is_not_read(run: RunFolder) -> None:
    save(run, OWN)
    found = run.newest_checkpoint(key=OWN)
    assert found is not None
    (found.path / "state.pkl").write_bytes(b"code!")
    with pytest.raises(Damaged, match=r"state\.pkl"):
        run.read(found, "state.pkl")
    with pytest.raises(Damaged, match=r"other\.pkl is missing"):
        run.read(found, "other.pkl")


def test_models_are_not_signed(run: RunFolder) -> None:
    assert not is_signed(run.claim(None, "", OWN).publish_model(1, {"policy.onnx": b"p"}).manifest)
