"""Whole trainings through Spark, ours and MLlib's in turn, on cached data and from files."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from generators import Data
from measure import Samples, alternate, peak_memory, processes, role
from pyspark.sql import DataFrame, SparkSession
from quality import Fitted
from workload import Workload, mllib_api, secure_api

from securemllib.cli.deployment import LocalDeployment
from securemllib.spark import SecureSession
from securemllib.wire.job import Mode

__all__ = ["Comparison", "Trainer", "blas", "start_spark"]

_NATIVE = "libopenblas.so.0"
_WARM_UP, _WARM_UP_SECONDS = 1, 12.0


@dataclass(slots=True, kw_only=True)
class Comparison:
    """Both sides' costs and models of one workload.

    Attributes:
        ours: Our costs.
        reference: MLlib's.
        fitted: Our models, one a measured run.
        reference_fitted: MLlib's.
        peak: Largest resident set of an enclave so far in bytes.
    """

    ours: Samples
    reference: Samples
    fitted: list[Fitted]
    reference_fitted: list[Fitted]
    peak: int


@dataclass(slots=True, kw_only=True)
class Trainer:
    """Trains one workload in one Spark session.

    Args:
        workload: What to train.
        data: Its rows.
        spark: The session of both sides.
        deployment: The owner, broker and agent.
        mode: Where our statistics are added.
    """

    workload: Workload
    data: Data
    spark: SparkSession
    deployment: LocalDeployment
    mode: str
    _count: int = 0
    _models: dict[str, list[Any]] = field(default_factory=dict)

    def cached(self, runs: int) -> Comparison:
        """Compare on cached data: MLlib's assembled rows lie in Spark's memory, ours decrypted in the enclave's."""
        frame = self._cached()
        session = self.deployment.session(self.spark, {"spark.securemllib.mode": self.mode})
        sealed = self._encrypted()
        rows = self.assembled(secure_api(), session.read(str(sealed)))
        try:
            samples = alternate(
                lambda number: lambda: self._fit("ours", secure_api(), rows, number),
                lambda number: lambda: self._fit("reference", mllib_api(), frame, number),
                warm_up=_WARM_UP,
                runs=runs,
                # A run of few calls is a trial and shall not take long.
                warm_up_seconds=min(_WARM_UP_SECONDS, 2.0 * runs),
            )
            return self._comparison(*samples, runs)
        finally:
            frame.unpersist()
            session.stop()
            shutil.rmtree(sealed)

    def cold(self, runs: int) -> Comparison:
        """Compare from files in a running session; ours are a dataset that no enclave has seen, each time anew."""
        session = self.deployment.session(self.spark, {"spark.securemllib.mode": self.mode})

        def ours(number: int) -> Callable[[], object]:
            sealed = self._encrypted()
            return lambda: self._fit("ours", secure_api(), self.assembled(secure_api(), session.read(str(sealed))), number)

        def reference(number: int) -> Callable[[], object]:
            path = str(self.data.path)
            return lambda: self._fit("reference", mllib_api(), self.assembled(mllib_api(), self.spark.read.parquet(path)), number)

        try:
            return self._comparison(*alternate(ours, reference, warm_up=_WARM_UP, runs=runs), runs)
        finally:
            session.stop()
            shutil.rmtree(self.deployment.directory / "datasets", ignore_errors=True)

    def scoring(self, runs: int, *, cached: bool) -> tuple[Samples, Samples]:
        """Compare `transform` and the writing of the column that it adds: ours as sealed rows for the analyst, MLlib's as Parquet.

        On both sides tasks write the files, with the defaults of each and without waiting for the disk. Cached rows lie in Spark's memory
        and, since a scoring before, in the enclave's; from files ours are a dataset that no enclave has seen, each time anew.
        """
        output, out = self.workload.output, self.deployment.directory / "scored"
        session = self.deployment.session(self.spark, {"spark.securemllib.mode": self.mode})
        sealed, plain, path = self._encrypted(), self._cached(), str(self.data.path)
        rows = self.assembled(secure_api(), session.read(str(sealed)))
        model, reference = (self.workload.estimator(api, 0).fit(data) for api, data in ((secure_api(), rows), (mllib_api(), plain)))
        if not cached:
            plain.unpersist()

        def ours(_: int) -> Callable[[], object]:
            shutil.rmtree(out, ignore_errors=True)
            folder = sealed if cached else self._encrypted()
            return lambda: model.transform(self.assembled(secure_api(), session.read(str(folder)))).release(columns=[output], path=str(out))

        def theirs(_: int) -> Callable[[], object]:
            def frame() -> DataFrame:
                return plain if cached else self.assembled(mllib_api(), self.spark.read.parquet(path))

            return lambda: reference.transform(frame()).select(output).write.mode("overwrite").parquet(str(out))

        try:
            return alternate(
                ours, theirs, warm_up=_WARM_UP, runs=runs, warm_up_seconds=min(_WARM_UP_SECONDS, 2.0 * runs) if cached else 0.0
            )
        finally:
            plain.unpersist()
            session.stop()
            shutil.rmtree(self.deployment.directory / "datasets", ignore_errors=True)

    def modes(self, runs: int) -> tuple[Samples, Samples]:
        """Compare partitioned mode with enclave mode on rows that the enclave holds."""
        sealed = self._encrypted()
        sessions = [
            self.deployment.session(self.spark, {"spark.securemllib.mode": mode.value}) for mode in (Mode.PARTITIONED, Mode.ENCLAVE)
        ]

        def side(session: SecureSession) -> Callable[[int], Callable[[], object]]:
            rows = self.assembled(secure_api(), session.read(str(sealed)))
            return lambda number: lambda: self.workload.estimator(secure_api(), number).fit(rows)

        try:
            return alternate(*map(side, sessions), warm_up=_WARM_UP, runs=runs, warm_up_seconds=min(_WARM_UP_SECONDS, 2.0 * runs))
        finally:
            for session in sessions:
                session.stop()
            shutil.rmtree(sealed)

    def beside(self, fit: Callable[[int], object], runs: int) -> tuple[Samples, Samples, list[Fitted], list[Any]]:
        """Compare `fit` on rows that the enclave holds with a library's, which is given the number of the run; return the models, too."""
        session = self.deployment.session(self.spark, {"spark.securemllib.mode": self.mode})
        sealed = self._encrypted()
        rows = self.assembled(secure_api(), session.read(str(sealed)))
        models: list[Any] = []
        try:
            ours, theirs = alternate(
                lambda number: lambda: self._fit("ours", secure_api(), rows, number),
                lambda number: lambda: models.append(fit(number)),
                warm_up=_WARM_UP,
                runs=runs,
            )
            fitted = [self.workload.read(model.release(), model) for model in self._models["ours"][-runs:]]
            return ours, theirs, fitted, models[-runs:]
        finally:
            session.stop()
            shutil.rmtree(sealed)

    def assembled(self, api: Any, frame: Any) -> Any:
        """Return rows of either side with the columns that the workload's estimator reads."""
        if self.workload.form != "assembled":
            return frame
        columns = [name for name in self.data.columns if name not in self.workload.aside]
        return api.VectorAssembler(inputCols=columns, outputCol="features").transform(frame)

    def close(self) -> None:
        """End the Spark session and its enclaves."""
        enclaves = [process for process in processes().values() if role(process) == "enclave"]
        self.spark.stop()
        for enclave in enclaves:
            enclave.terminate()
        psutil.wait_procs(enclaves, timeout=10.0)

    def _cached(self) -> DataFrame:
        frame = self.assembled(mllib_api(), self.spark.read.parquet(str(self.data.path)))
        if self.workload.form == "assembled":
            frame = frame.select("features", *self.workload.aside, *(["label"] if self.data.label is not None else []))
        frame = frame.cache()
        frame.count()
        return frame

    def _encrypted(self) -> Path:
        self._count += 1
        return self.deployment.dataset(self.data.table, f"{self.workload.name}-{self._count}")

    def _fit(self, side: str, api: Any, frame: "DataFrame | Any", number: int) -> None:
        self._models.setdefault(side, []).append(self.workload.estimator(api, number).fit(frame))

    def _comparison(self, ours: Samples, reference: Samples, runs: int) -> Comparison:
        enclaves = [peak_memory(process.pid) for process in processes().values() if role(process) == "enclave"]
        return Comparison(
            ours=ours,
            reference=reference,
            fitted=[self.workload.read(model.release(), model) for model in self._models["ours"][-runs:]],
            reference_fitted=[self.workload.read(model, model) for model in self._models["reference"][-runs:]],
            peak=max(enclaves, default=0),
        )


def start_spark(cores: int) -> SparkSession:
    """Return a local Spark session that both sides use, with OpenBLAS for MLlib where it is installed."""
    # One thread a task on both sides: the tasks are what runs in parallel.
    os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    # Spark starts its Python tasks with whatever `python3` it finds, unless told.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    native = " ".join(f"-Ddev.ludovic.netlib.{library}.nativeLib={_NATIVE}" for library in ("blas", "lapack"))
    spark = (
        SparkSession.builder.master(f"local[{cores}]")
        .appName("bench")
        .config("spark.driver.memory", "6g")
        # MLlib's ALS has a lineage of 40 steps, which is read recursively, on more stack than the default.
        .config("spark.driver.extraJavaOptions", f"{native} -Xss16m")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.python.unix.domain.socket.enabled", "true")
        .config("spark.scheduler.barrier.maxConcurrentTasksCheck.interval", "1s")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def blas(spark: SparkSession) -> str:
    """Return the linear algebra that MLlib really runs on, as its JVM says."""
    netlib = spark.sparkContext._jvm.dev.ludovic.netlib.blas
    name = netlib.BLAS.getInstance().getClass().getSimpleName()
    mapped = _NATIVE.split(".", maxsplit=1)[0] in _maps(spark)
    return f"{name} with OpenBLAS" if name == "JNIBLAS" and mapped else f"{name}, without OpenBLAS"


def _maps(spark: SparkSession) -> str:
    jvm = spark.sparkContext._jvm.java.lang.ProcessHandle.current().pid()
    return Path(f"/proc/{jvm}/maps").read_text()
