"""`kill -9` at any moment: what was acknowledged is read exactly once, before and after repair."""

import json
import random

WRITERS = """
import json, os, random, signal, sys, time
from pathlib import Path
from conftest import Kept, make_record, make_source
from charkha.serving.records.sealing import seal

kept = Kept(Path(sys.argv[1]))
chance = random.Random(int(sys.argv[2]))
acknowledged = []

def write(pipe):
    recorder = kept.recorder(segment_bytes=30_000, durability=chance.choice(["process", "power"]))
    number = recorder.declare(make_source())
    while True:
        batch = [make_record() for _ in range(chance.choice([1, 2, 8, 64]))]
        recorder.append(number, batch)
        os.write(pipe, "".join(r[0] for r in batch).encode())  # the answer leaves

for round in range(35):
    children = []
    for _ in range(3):
        ours, theirs = os.pipe()
        if (pid := os.fork()) == 0:
            chance.seed(os.getpid())
            os.close(ours)
            write(theirs)
        os.close(theirs)
        children.append((pid, ours))
    time.sleep(chance.random() * 0.03)
    for pid, _ in children:
        os.kill(pid, signal.SIGKILL)
    for pid, pipe in children:
        os.waitpid(pid, 0)
        told = b""
        while piece := os.read(pipe, 1 << 16):
            told += piece
        os.close(pipe)
        acknowledged += [told[at:at + 36].decode() for at in range(0, len(told) // 36 * 36, 36)]
    if round % 10 == 9:
        found = kept.ids()
        assert len(found) == len(set(found)) and set(acknowledged) <= set(found)
        kept.seal()
found = kept.ids()
kept.seal()
assert kept.ids() == found and not kept.logs()
print(json.dumps([len(acknowledged), len(found), len(set(found)),
                  len(set(acknowledged) - set(found))]))
"""


def test_a_writer_killed_at_105_random_moments_loses_nothing_that_it_acknowledged(kept, script):
    told = script(WRITERS, kept.project.root, 3)
    acknowledged, found, different, lost = json.loads(told.stdout)
    assert acknowledged > 1000
    assert found == different >= acknowledged
    assert lost == 0


SEALERS = """
import itertools, os, shutil, signal, sys
from pathlib import Path
from conftest import Kept, make_record, make_source
from charkha.serving.records.feedback import Feedback
from charkha.serving.records import open_feedback
from charkha.serving.records.store import Store, Wanted

DAY = 86_400_000_000
def fill(kept):
    ids = []
    for size in (2,):
        recorder = kept.recorder()
        numbers = [recorder.declare(make_source(version=v)) for v in (1, 2)]
        for number in numbers:
            given = [make_record(at_us=20_000 * DAY + day * DAY) for day in range(size)]
            recorder.append(number, given)
            ids += [r[0] for r in given]
        recorder.close()
    log = open_feedback(kept.project)
    log.append([Feedback(id=id, truth=1.0) for id in ids])
    log.close()
    (kept.logs()[-1]).open("ab").write(b"[0,damaged]\\n")
    return sorted(ids)

FILES = ("sealing.py", "local.py", "layout.py")
def seal_until(kept, line):
    left = line
    def trace(frame, event, argument):
        nonlocal left
        if not frame.f_code.co_filename.endswith(FILES):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    kept.seal()
    sys.settrace(None)

def truths(kept):
    from charkha.serving.records.reading import read_records
    table = read_records("prices", project=kept.project)
    return table["id"].to_pylist(), table["ground_truth"].to_pylist()

template = Path(sys.argv[1]) / "template"
ids = fill(Kept(template))
made = 0
for line in itertools.count(int(sys.argv[2]), int(sys.argv[3])):
    root = Path(sys.argv[1]) / str(line)
    shutil.copytree(template, root)
    kept = Kept(root)
    if (pid := os.fork()) == 0:
        sys.stderr = open(os.devnull, "w")
        seal_until(kept, line)
        os._exit(0)
    killed = os.waitpid(pid, 0)[1] != 0
    for _ in range(2):
        assert kept.ids() == ids, line
        elsewhere = Store(Path("nowhere"), kept.place).predictions(Wanted(model="prices"))
        there = [id for table in elsewhere for id in table["id"].to_pylist()]
        assert len(there) == len(set(there)) and set(there) <= set(ids), line
        found, truth = truths(kept)
        assert (sorted(found), truth) == (ids, [1.0] * len(ids)), line
        kept.seal()
    assert not kept.logs()
    assert not list(kept.sealed.rglob("*.partial"))
    assert len(list((kept.open / "damaged").iterdir())) == 1
    shutil.rmtree(root)
    made += killed
    if not killed:
        break
print(made)
"""


def test_a_sealer_killed_at_any_line_leaves_every_record_exactly_once(kept, script):
    """Every fifth line from a random one on; all of them take minutes."""
    told = script(SEALERS, kept.project.root, random.choice("12345"), 5)
    assert int(told.stdout) > 30


READING = """
import os, random, signal, subprocess, sys, time
from pathlib import Path
from conftest import Kept, make_record, make_source

kept = Kept(Path(sys.argv[1]))
until = time.monotonic() + 4
if (writer := os.fork()) == 0:
    recorder = kept.recorder(segment_bytes=10_000)
    number = recorder.declare(make_source())
    at = 0
    while True:
        recorder.append(number, [make_record(value=float(at + n)) for n in range(8)])
        at += 8
        time.sleep(0.0002)
if (sealer := os.fork()) == 0:
    while True:
        if (once := os.fork()) == 0:
            kept.seal()
            os._exit(0)
        time.sleep(random.random() * 0.05)
        os.kill(once, signal.SIGKILL)
        os.waitpid(once, 0)
from charkha.serving.records.store import Store, Wanted
looks = 0
last = 0
while time.monotonic() < until:
    tables = Store(kept.open, kept.place).predictions(Wanted(model="prices"))
    values = sorted(v for table in tables for v in table["prediction"].to_pylist())
    assert values == [float(n) for n in range(len(values))], "a record is lacking, or there twice"
    assert len(values) >= last
    last, looks = len(values), looks + 1
for pid in (sealer, writer):
    os.kill(pid, signal.SIGKILL)
print(looks, last)
"""


def test_a_reader_beside_a_writer_and_sealers_that_are_killed_reads_exactly_once(kept, script):
    looks, rows = map(int, script(READING, kept.project.root).stdout.split())
    assert looks > 3
    assert rows > 100
