"""What the comparison needs and Millrace does not: Kafka's jars, and the small programs beside this."""

import pathlib
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
PLACE = ROOT / "target" / "compare"
JARS = PLACE / "kafka"
CLASSES = PLACE / "classes"

# Where distributions put the sources of librdkafka's examples.
RDKAFKA_EXAMPLES = [
    pathlib.Path("/usr/share/doc/librdkafka-dev/examples"),
    pathlib.Path("/usr/local/share/doc/librdkafka/examples"),
]


def _newer(made, sources):
    return made.exists() and all(made.stat().st_mtime >= source.stat().st_mtime for source in sources)


def _run(*command, **options):
    subprocess.run([str(part) for part in command], check=True, **options)


def kafka():
    """Kafka's jars, from Maven Central."""
    stamp, pom = JARS / ".stamp", HERE / "pom.xml"
    if not _newer(stamp, [pom]):
        shutil.rmtree(JARS, ignore_errors=True)
        _run("mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", "-DincludeScope=runtime",
             f"-DoutputDirectory={JARS}")
        stamp.touch()
    return JARS


def kafka_version():
    """The version of the broker among the jars, if they are there."""
    return next((jar.stem.rpartition("-")[2] for jar in JARS.glob("kafka-server-4*.jar")), "")


def java_classes():
    """The Java programs of this folder."""
    kafka()
    sources = sorted((HERE / "java").glob("*.java"))
    made = CLASSES / "Rebalance.class"
    if not _newer(made, sources):
        CLASSES.mkdir(parents=True, exist_ok=True)
        _run("javac", "-d", CLASSES, "-cp", f"{JARS}/*", *sources)
    return CLASSES


def rdkafka_performance():
    """librdkafka's own performance client, or None where its source is not installed."""
    source = next((place / "rdkafka_performance.c" for place in RDKAFKA_EXAMPLES
                   if (place / "rdkafka_performance.c").exists()), None)
    if source is None:
        return None
    made = PLACE / "rdkafka_performance"
    shims = HERE / "librdkafka" / "src"
    if not _newer(made, [source, *shims.iterdir()]):
        # It includes "../src/rd.h", so it needs a folder beside the shims.
        built = PLACE / "librdkafka"
        shutil.rmtree(built, ignore_errors=True)
        shutil.copytree(shims, built / "src")
        (built / "examples").mkdir()
        copied = shutil.copy(source, built / "examples")
        _run("cc", "-O2", "-w", "-I", built / "src", "-I", "/usr/include/librdkafka", "-o", made, copied, "-lrdkafka")
    return made


def rdkafka_latency():
    """The program that measures single records through librdkafka."""
    source, made = HERE / "librdkafka" / "latency.c", PLACE / "latency"
    if not _newer(made, [source]):
        PLACE.mkdir(parents=True, exist_ok=True)
        _run("cc", "-O2", "-Wall", "-Wextra", "-o", made, source, "-lrdkafka", "-lpthread")
    return made
