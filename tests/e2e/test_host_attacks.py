"""Does a host that changes, swaps, replays or asks for more than it may get the documented error, and nothing else?"""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from securemllib.errors import CoverError, FreshnessError, IntegrityError, PolicyError, SealedError, SignatureError
from securemllib.ml.clustering import KMeans
from securemllib.ml.feature import VectorAssembler
from securemllib.owner import dataset as owner_dataset
from securemllib.owner.broker_client import BrokerClient
from securemllib.owner.reading import open_dataset
from securemllib.spark import round_jobs
from securemllib.wire.job import JobSpecification
from tests.e2e.conftest import COLUMNS, features, long_kmeans
from tests.e2e.running import RunningFit

POLICY = """\
allow_insecure: true
insecure_risk: the-operator-can-read-everything
enclaves: {{this-installation: {{measurement: "{measurement}"}}}}
rules:
  - name: clusters
    analysts: [{analyst}]
    operations: {{KMeans: {{k: {{max: 4}}, maxIter: {{max: 3}}}}}}
    columns: [a, b]
    outputs: {{sealed_model: [{analyst}]}}
"""
# As many rows in each part, so that parts have the same length and only their content tells them apart.
TABLE = pa.table({name: np.random.default_rng(9).random(400) for name in COLUMNS})


@pytest.fixture
def dataset(deployment, request):
    """A dataset of this test alone, in four parts."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    return deployment.dataset(TABLE, name, rows_per_part=100)


@pytest.fixture(scope="module")
def bounded(deployment):
    """A dataset whose policy allows small clusterings of two columns, and no summary and no release."""
    return str(deployment.dataset(TABLE, "bounded", policy=POLICY, rows_per_part=200))


def fit(session, path, columns=COLUMNS, **params):
    """Train on a dataset."""
    rows = VectorAssembler(inputCols=columns, outputCol="features").transform(session.read(str(path)))
    return KMeans(**{"k": 2, "maxIter": 2, "seed": 1, **params}).fit(rows)


def swap(first, second):
    """Give two files each other's names."""
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)


def test_swapped_parts_are_refused(another, dataset):
    """Two parts under each other's names do not open; under their own they do."""
    session, parts = another(), sorted(Path(dataset).glob("*.parquet"))
    assert parts[0].stat().st_size == parts[2].stat().st_size
    swap(parts[0], parts[2])
    with pytest.raises(IntegrityError) as caught:
        fit(session, dataset)
    assert caught.value.error_code == "integrity.part"
    swap(parts[0], parts[2])
    assert fit(session, dataset).sealed


@pytest.mark.parametrize("place", [0.02, 0.5, 0.98])
def test_a_flipped_byte_is_refused(another, dataset, place):
    """One changed byte near a part's start, middle or end ends the fit; changed back, the fit succeeds."""
    session, part = another(), sorted(Path(dataset).glob("*.parquet"))[1]
    genuine = part.read_bytes()
    changed = bytearray(genuine)
    changed[int(place * len(changed))] ^= 0xFF
    part.write_bytes(changed)
    with pytest.raises(IntegrityError) as caught:
        fit(session, dataset)
    assert caught.value.error_code == "integrity.part"
    part.write_bytes(genuine)
    assert fit(session, dataset).sealed


def test_an_older_version_is_refused(another, deployment, dataset, tmp_path):
    """Once a newer version is enrolled, the older version's manifest and parts get no keys; the newer version trains."""
    newer = dataset.with_name(f"{dataset.name}-2")
    owner_dataset.encrypt(TABLE, newer, name=newer.name, identity=deployment.owner, keystore=deployment.keystore, previous=dataset)
    with BrokerClient(deployment.broker_url, deployment.broker.fingerprint) as client:
        client.enrol(open_dataset(newer, owner=deployment.owner.public, keystore=deployment.keystore), deployment.owner)
    session = another()
    with pytest.raises(FreshnessError) as caught:
        fit(session, dataset)
    assert caught.value.error_code == "integrity.freshness"
    assert fit(session, newer).sealed
    shutil.copy(dataset / "manifest.sml", newer / "manifest.sml")
    with pytest.raises(FreshnessError):
        fit(session, newer)


def test_another_manifest_than_the_jobs_is_refused(another, deployment, dataset):
    """Enclaves that are handed another genuine manifest than the one that the job names refuse it; the named one they take."""
    session = another()
    rows = session.read(str(dataset))
    other = session.read(str(deployment.dataset(TABLE, f"{dataset.name}-other", rows_per_part=100)))
    genuine = rows.source.encoded
    # The job names the genuine manifest, and the tasks carry the other one.
    assert rows.source.reference != other.source.reference
    object.__setattr__(rows.source, "encoded", other.source.encoded)
    with pytest.raises(IntegrityError) as caught:
        KMeans(k=2, maxIter=2).fit(features(session, None, rows))
    assert caught.value.error_code == "integrity.manifest"
    object.__setattr__(rows.source, "encoded", genuine)
    assert KMeans(k=2, maxIter=2).fit(features(session, None, rows)).sealed


@pytest.mark.parametrize("back", [2, 0])
def test_an_older_checkpoint_is_refused(another, points, cluster, storage, back):
    """Enclaves that are killed, and handed an older checkpoint than the recorded one, refuse to repeat rounds; the latest they take."""
    running = RunningFit(long_kmeans(maxIter=20), features(another(), points), storage)
    running.reach(6)
    enclaves = cluster.enclaves()
    for process in enclaves:
        process.suspend()
    running.settle()
    stored = sorted(storage.rglob("checkpoint-*.sml"))
    older = stored[-1 - back].read_bytes()
    for file in stored[len(stored) - back :]:
        file.write_bytes(older)
    for process in enclaves:
        os.kill(process.pid, signal.SIGKILL)
    if not back:
        assert running.result().sealed
        return
    with pytest.raises(FreshnessError) as caught:
        running.result()
    assert caught.value.error_code == "integrity.freshness.checkpoint"


@pytest.mark.parametrize("change", [{}, {"seed": 77}, {"outputs": ()}, {"params": {"k": 3}}], ids=["nothing", "seed", "outputs", "params"])
def test_a_job_that_was_changed_after_signing_is_refused(another, dataset, monkeypatch, change):
    """A driver that changes a job which the analyst's agent signed is refused by the broker; an unchanged one is accepted."""
    session = another()
    submit = session.broker.submit

    def tampered(signed, tee):
        job = replace(JobSpecification.from_bytes(signed.payload), **change)
        return submit(replace(signed, payload=job.to_bytes()), tee)

    monkeypatch.setattr(session.broker, "submit", tampered)
    if not change:
        assert fit(session, dataset).sealed
        return
    with pytest.raises(SignatureError) as caught:
        fit(session, dataset)
    assert caught.value.error_code == "integrity.signature"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"k": 5}, "refused.policy.operation"),
        ({"maxIter": 4}, "refused.policy.operation"),
        ({"columns": COLUMNS}, "refused.policy.columns"),
    ],
    ids=["k", "maxIter", "column"],
)
def test_what_the_policy_does_not_allow_is_refused(another, bounded, asked, code):
    """A Param over its bound and a column that is not named are refused by name; within the bounds the fit succeeds."""
    session = another()
    allowed = {"columns": ["a", "b"], "k": 4, "maxIter": 3}
    with pytest.raises(PolicyError) as caught:
        fit(session, bounded, **{**allowed, **asked})
    assert caught.value.error_code == code
    assert fit(session, bounded, **allowed).sealed


def test_an_output_that_the_policy_does_not_name_is_refused(another, bounded, dataset):
    """Where the policy names neither summary nor release both stay sealed; where it names them, both open."""
    session = another()
    model = fit(session, bounded, columns=["a", "b"])
    with pytest.raises(SealedError) as caught:
        assert model.summary.trainingCost
    assert caught.value.error_code == "refused.sealed"
    with pytest.raises(PolicyError) as caught:
        model.release()
    assert caught.value.error_code.startswith("refused.policy")
    model = fit(session, dataset)
    assert model.summary.trainingCost > 0
    assert model.release().clusterCenters()


# What a driver does with the sealed statistics by share of a round, and those of the round before.
ATTACKS = {
    "nothing": lambda found, before: found,
    "exchanged": lambda found, before: {0: found[1], 1: found[0]},
    "dropped": lambda found, before: {0: found[0], 1: b""},
    "doubled": lambda found, before: {0: found[0], 1: found[0]},
    "stale": lambda found, before: before or found,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_statistics_that_do_not_cover_the_parts_are_refused(another, dataset, monkeypatch, attack):
    """A driver that exchanges, drops, doubles or replays the sealed statistics of shares is noticed in the round in which it does so."""
    session, before = another(barrier="false"), []
    honest = round_jobs._statistics

    def statistics(*arguments):
        found = honest(*arguments)
        changed = ATTACKS[attack](found, before[-1] if before else None)
        before.append(found)
        return changed

    monkeypatch.setattr(round_jobs, "_statistics", statistics)
    if attack == "nothing":
        assert fit(session, dataset).sealed
        return
    with pytest.raises(CoverError) as caught:
        fit(session, dataset)
    assert caught.value.error_code == "integrity.cover"
    assert len(before) == (2 if attack == "stale" else 1)
