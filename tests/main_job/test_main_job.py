"""Tests of examples/fashion_mnist as a person runs it: the real program, real images, real processes.

usage: test_main_job.py PROGRAM [MPIRUN] [unittest options]
Only Python's standard library. Most tests use 10,500 training and 500 test images, so that a run takes a second.
"""
import contextlib
import csv
import fcntl
import functools
import gzip
import json
import os
import pty
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest
import xml.etree.ElementTree
from pathlib import Path

PROGRAM = MPIRUN = None
DATA = Path("/usr/share/datasets/fashion-mnist")
FILES = ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
LAST_LINE = re.compile(r"^test_accuracy=(0\.\d+|1(\.0+)?) images_per_second=\d+ workers=\d+ backend=(threads|mpi) seconds=[\d.]+$")
SMALL = ["--trials", "2", "--epochs", "2"]
SCRATCH = None  # one folder for all tests, removed at the end


def setUpModule():
    global SCRATCH
    SCRATCH = Path(tempfile.mkdtemp(prefix="cadre_main_job_"))
    small_data()


def tearDownModule():
    shutil.rmtree(SCRATCH)


# ---- Data -----------------------------------------------------------------------------------------------------------


@functools.cache
def unpacked(name):
    return gzip.decompress((DATA / name).read_bytes())


def write_idx(path, elements, *extents):
    header = struct.pack(">HBB" + "I" * len(extents), 0, 8, len(extents), *extents)
    path.write_bytes(gzip.compress(header + elements, compresslevel=1))


def small_data(folder=None, train=10500, test=500):
    """The first images of the real files, with the same names."""
    folder = folder or SCRATCH / "data"
    if not folder.exists():
        folder.mkdir()
        for part, count in (("train", train), ("t10k", test)):
            write_idx(folder / f"{part}-images-idx3-ubyte.gz", unpacked(f"{part}-images-idx3-ubyte.gz")[16:][: count * 784], count, 28, 28)
            write_idx(folder / f"{part}-labels-idx1-ubyte.gz", unpacked(f"{part}-labels-idx1-ubyte.gz")[8:][:count], count)
    return folder


# ---- Running the program ----------------------------------------------------------------------------------------------


def command(*arguments, ranks=0, data=None):
    given = [str(a) for a in arguments]
    if not any(a.startswith("--data") for a in given):
        given += ["--data", str(data or small_data())]
    launcher = ["timeout", "-k", "2", "60", MPIRUN, "--quiet", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] if ranks else []
    return launcher + [PROGRAM] + given


def environment():
    return {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def run(*arguments, **how):
    return subprocess.run(command(*arguments, **how), capture_output=True, text=True, timeout=120, env=environment())


def listing(folder):
    """Every path below `folder` with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def newest_checkpoint(run_dir):
    return max((run_dir / "train/checkpoints").glob("*.cadre"))


def checkpoint_values(path):
    """What a checkpoint holds, by name, as bytes. The report in it is left out: it holds the speed that was measured."""
    file = path.read_bytes()
    header = struct.Struct("<8sIIQQQQQ")
    magic, _, _, file_size, table_size, count, _, _ = header.unpack_from(file)
    assert magic == b"\x89CADCK\r\n" and file_size == len(file), path
    table, at, values = header.size, header.size + table_size, {}
    for _ in range(count):
        size, _, name_size, type_size = struct.unpack_from("<QQII", file, table)
        table += 24
        values[file[table : table + name_size].decode()] = file[at : at + size]
        table += name_size + type_size
        at += size
    assert at == len(file), path
    del values["cadre.report"]
    return values


def weights(run_dir):
    return checkpoint_values(newest_checkpoint(run_dir))


def trials(run_dir):
    """The table of trials without the time that they took and without the number of reports that were made for it: what
    a killed trial had done since its checkpoint is done and reported again."""
    with open(run_dir / "tune/trials.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    for row in rows:
        del row["seconds"], row["reports"]
    return rows


class MainJob(unittest.TestCase):
    finished_runs = {}

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(dir=SCRATCH))

    def run_well(self, *arguments, **how):
        ended = run(*arguments, **how)
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertRegex(ended.stdout.splitlines()[-1], LAST_LINE)
        return ended

    def finished(self, *arguments, ranks=0):
        """The folder and the output of a run that ended well; each is run once for all tests, which must not change it."""
        key = (arguments, ranks)
        if key not in self.finished_runs:
            run_dir = Path(tempfile.mkdtemp(dir=SCRATCH)) / "run"
            self.finished_runs[key] = run_dir, self.run_well(*arguments, "--run-dir", run_dir, ranks=ranks)
        return self.finished_runs[key]

    def copy_of(self, run_dir):
        return Path(shutil.copytree(run_dir, self.folder / "run"))

    def needs_mpirun(self):
        if not MPIRUN:
            self.skipTest("needs mpirun")

    def assert_refused(self, number, *arguments, says="", **how):
        """One numbered line on stderr, exit code 2, and no file made or changed."""
        before = listing(self.folder)
        if not any(str(a).startswith("--run-dir") for a in arguments):
            arguments += ("--run-dir", self.folder / "run")
        ended = run(*arguments, **how)
        self.assertEqual(ended.returncode, 2, ended)
        self.assertEqual(ended.stdout, "")
        self.assertRegex(ended.stderr, rf"\Afashion_mnist: \[cadre\.\w+\.{number}\] [^\n]+\n\Z")
        self.assertIn(says, ended.stderr)
        self.assertEqual(before, listing(self.folder))


class CommandLine(MainJob):
    def test_help_prints_the_usage(self):
        ended = run("--help")
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        self.assertTrue(ended.stdout.startswith("usage: fashion_mnist [options]\n"))
        for option in "workers epochs trials seed run-dir data resume deterministic help".split():
            self.assertIn(f"  --{option} ", ended.stdout)

    def test_an_unknown_option_is_refused(self):
        for option in ("--epoch", "-x", "epochs", "--", "--epochs5"):
            with self.subTest(option=option):
                self.assert_refused(1901, option, says=f"'{option}'")

    def test_an_option_without_its_value_is_refused(self):
        for option in ("--workers", "--epochs", "--trials", "--seed", "--run-dir", "--data"):
            with self.subTest(option=option):
                ended = subprocess.run([PROGRAM, option], capture_output=True, text=True, cwd=self.folder)
                self.assertEqual((ended.returncode, ended.stdout), (2, ""))
                self.assertEqual(ended.stderr, f"fashion_mnist: [cadre.examples.1902] {option} needs a value\n")
        self.assertEqual(listing(self.folder), {})

    def test_a_value_that_is_no_number_or_out_of_range_is_refused(self):
        for argument in ("--epochs=0", "--epochs=ten", "--epochs=", "--epochs=2.5", "--epochs=2x", "--epochs=99999999999", "--workers=-1",
                         "--workers=0", "--trials=0", "--trials=10001", "--seed=-1", "--seed=18446744073709551616", "--resume=yes"):
            with self.subTest(argument=argument):
                option, value = argument.split("=")
                self.assert_refused(1903, argument, says=f"{option} cannot be '{value}': give ")

    def test_an_empty_run_directory_is_refused(self):
        self.assert_refused(1903, "--run-dir=", says="--run-dir")

    def test_deterministic_needs_1_2_or_4_workers(self):
        self.assert_refused(1903, "--deterministic", "--workers", 3, says="1, 2 or 4")

    def test_a_wrong_option_is_said_once_under_mpirun(self):
        self.needs_mpirun()
        self.assert_refused(1901, "--epoch", says="'--epoch'", ranks=2)

    def test_other_workers_than_ranks_are_refused(self):
        self.needs_mpirun()
        self.assert_refused(1903, "--workers", 3, says="ranks", ranks=2)


class Data(MainJob):
    def broken(self, name, content):
        """A folder of the small data in which one file has other content; None: it is missing."""
        folder = Path(tempfile.mkdtemp(dir=SCRATCH))
        for file in FILES:
            os.link(small_data() / file, folder / file)
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)
        return folder

    def test_a_missing_data_set_names_the_package(self):
        self.assert_refused(1904, "--data", self.folder / "nowhere", says="apt-get install dataset-fashion-mnist")
        for name in FILES:
            with self.subTest(missing=name):
                self.assert_refused(1904, "--data", self.broken(name, None), says=name)

    def test_a_data_folder_that_cannot_be_looked_into_is_refused(self):
        self.assert_refused(1401, "--data", "x" * 5000, says="File name too long")

    def test_a_truncated_gzip_is_refused(self):
        for name in FILES:
            with self.subTest(file=name):
                whole = (small_data() / name).read_bytes()
                self.assert_refused(1403, "--data", self.broken(name, whole[: len(whole) // 2]), says=name)

    def test_a_corrupt_gzip_is_refused(self):
        for name in FILES:
            with self.subTest(file=name):
                packed = bytearray((small_data() / name).read_bytes())
                packed[-6] ^= 0x10  # in the checksum: the rest unpacks without complaint
                self.assert_refused(1404, "--data", self.broken(name, packed), says=name)

    def test_a_wrong_idx_magic_is_refused(self):
        for name in FILES:
            with self.subTest(file=name):
                self.assert_refused(711, "--data", self.broken(name, gzip.compress(b"PNG!" + bytes(2000))), says=name)

    def test_an_idx_file_that_ends_early_is_refused(self):
        cut = gzip.decompress((small_data() / FILES[0]).read_bytes())[:-1]
        self.assert_refused(713, "--data", self.broken(FILES[0], gzip.compress(cut, 1)), says=FILES[0])

    def test_images_and_labels_that_disagree_are_refused(self):
        for images, labels in ((FILES[0], FILES[1]), (FILES[2], FILES[3])):
            with self.subTest(labels=labels):
                folder = self.broken(labels, None)
                write_idx(folder / labels, bytes(499), 499)
                self.assert_refused(717, "--data", folder, says="499")

    def test_a_label_beyond_the_classes_is_refused(self):
        folder = self.broken(FILES[3], None)
        write_idx(folder / FILES[3], bytes([3] * 499 + [10]), 500)
        self.assert_refused(718, "--data", folder, says="label 10 of sample 499")

    def test_elements_that_are_no_bytes_are_refused(self):
        ints = struct.pack(">HBB3I", 0, 0x0C, 3, 500, 28, 28) + bytes(500 * 784 * 4)
        self.assert_refused(716, "--data", self.broken(FILES[2], gzip.compress(ints, 1)), says=FILES[2])

    def test_images_of_another_size_are_refused(self):
        folder = self.broken(FILES[0], None)
        write_idx(folder / FILES[0], bytes(10500 * 64), 10500, 8, 8)
        self.assert_refused(1905, "--data", folder, says="64 pixels, not 784")

    def test_too_few_images_are_refused(self):
        for train, test in ((10000, 500), (0, 500), (10500, 0)):
            with self.subTest(train=train, test=test):
                self.assert_refused(1905, "--data", small_data(SCRATCH / f"data_{train}_{test}", train, test))

    def test_a_broken_data_set_is_said_once_under_mpirun(self):
        self.needs_mpirun()
        whole = (small_data() / FILES[1]).read_bytes()
        self.assert_refused(1403, "--data", self.broken(FILES[1], whole[:-100]), ranks=2)


class RunDirectory(MainJob):
    def test_an_unwritable_run_directory_is_refused(self):
        (self.folder / "file").write_text("in the way")  # root may write anywhere, but not below a regular file
        for run_dir in (self.folder / "file", self.folder / "file/run", self.folder / "file/a/b"):
            for resume in ([], ["--resume"]):
                with self.subTest(run_dir=run_dir, resume=resume):
                    self.assert_refused(1907, "--run-dir", run_dir, *resume, says=str(run_dir))

    def test_a_file_where_the_tuning_is_kept_is_refused(self):
        (self.folder / "run").mkdir()
        (self.folder / "run/tune").write_text("in the way")
        self.assert_refused(1907, says=str(self.folder / "run"))

    def test_settings_that_this_program_did_not_write_are_refused(self):
        (self.folder / "run/tune").mkdir(parents=True)
        (self.folder / "run/settings.journal").write_bytes(b"two\nlines\n" * 20)
        for resume in ([], ["--resume"]):
            with self.subTest(resume=resume):
                self.assert_refused(521, *resume, says=str(self.folder / "run/settings.journal"))

    def test_a_run_directory_in_use_is_refused_and_its_run_goes_on(self):
        for resume in ([], ["--resume"]):
            with self.subTest(resume=resume):
                run_dir = Path(tempfile.mkdtemp(dir=SCRATCH)) / "run"
                first = subprocess.Popen(command("--trials", "1", "--epochs", "100000", "--run-dir", run_dir), stdout=subprocess.DEVNULL,
                                         stderr=subprocess.PIPE, text=True)
                try:
                    while "epoch 1 " not in first.stderr.readline():
                        pass
                    self.assert_refused(523, "--run-dir", run_dir, *resume, says=str(run_dir))
                    while "epoch 20 " not in (line := first.stderr.readline()):
                        self.assertTrue(line, "the first run ended")
                finally:
                    first.kill()
                    first.stderr.close()
                    first.wait()
                self.assertEqual([p.name for p in run_dir.parent.iterdir()], ["run"])

    def test_the_run_directory_holds_trials_curves_and_the_newest_checkpoints(self):
        run_dir, _ = self.finished("--trials", "3", "--epochs", "4", "--workers", "1")
        with open(run_dir / "tune/trials.csv", newline="") as f:
            rows = list(csv.DictReader(f))
        lines = [json.loads(line) for line in (run_dir / "tune/trials.jsonl").read_text().splitlines()]
        self.assertEqual([row["trial"] for row in rows], ["0", "1", "2"])
        self.assertEqual([line["trial"] for line in lines], [0, 1, 2])
        for row, line in zip(rows, lines):
            self.assertEqual((int(row["width"]), int(row["batch"])), (line["width"], line["batch"]))
            self.assertIn(line["width"], (128, 256, 512))
        curves = xml.etree.ElementTree.parse(run_dir / "curves.svg").getroot()
        self.assertTrue(curves.tag.endswith("svg"))
        self.assertEqual(sorted(p.name for p in (run_dir / "train/checkpoints").iterdir()), ["000002.cadre", "000003.cadre", "000004.cadre"])

    def test_a_second_run_moves_the_first_aside(self):
        first, _ = self.finished(*SMALL, "--workers", "1")
        run_dir = self.copy_of(first)
        ended = self.run_well("--trials", "1", "--epochs", "1", "--workers", "1", "--run-dir", f"{run_dir}/")
        self.assertIn(f"the earlier run in {run_dir} is now in {run_dir}.1\n", ended.stdout)
        self.assertEqual(listing(self.folder / "run.1"), listing(first))
        self.assertEqual(len(trials(run_dir)), 1)


class Output(MainJob):
    def test_a_pipe_gets_plain_lines_and_the_result_last(self):
        for ranks in [0, 2] if MPIRUN else [0]:
            with self.subTest(ranks=ranks):
                arguments = [*SMALL, "--workers", "2"]
                run_dir, ended = self.finished(*arguments, ranks=ranks)
                last = ended.stdout.splitlines()[-1]
                self.assertRegex(last, LAST_LINE)
                self.assertTrue(ended.stdout.endswith(last + "\n"))
                self.assertIn(f" workers=2 backend={'mpi' if ranks else 'threads'} ", last)
                self.assertNotRegex(ended.stdout + ended.stderr, r"[\x00-\x09\x0b-\x1f\x7f]")
                self.assertRegex(ended.stdout, r"(?m)^trial +state .* val_accuracy")  # the table of trials
                self.assertRegex(ended.stderr, r"(?m)^trial 1: ")
                self.assertRegex(ended.stderr, r"(?m)^train: epoch 2 ")

    def test_a_file_that_gets_both_streams_has_the_table_before_the_training_and_the_result_last(self):
        for ranks in [0, 2] if MPIRUN else [0]:
            with self.subTest(ranks=ranks):
                arguments = command(*SMALL, "--run-dir", Path(tempfile.mkdtemp(dir=SCRATCH)) / "run", ranks=ranks)
                both = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, env=environment())
                lines = both.stdout.splitlines()
                self.assertRegex(lines[-1], LAST_LINE)
                [table] = [i for i, line in enumerate(lines) if re.match(r"trial +state .* val_accuracy", line)]
                self.assertLess(table, next(i for i, line in enumerate(lines) if line.startswith("train: epoch 1 ")))

    def test_a_terminal_of_80_columns_shows_the_accuracy_of_each_epoch(self):
        terminal, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
        process = subprocess.Popen(command(*SMALL, "--run-dir", self.folder / "run"), stdout=end, stderr=end, env={**os.environ, "TERM": "xterm"})
        os.close(end)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: the program closed its end
            while piece := os.read(terminal, 65536):
                shown += piece
        os.close(terminal)
        self.assertEqual(process.wait(), 0, shown)
        for epoch in (1, 2):
            self.assertRegex(shown.decode(), rf"train: epoch {epoch}  [^\n]*test_accuracy 0\.\d+")

    def test_a_result_that_cannot_be_written_is_an_error(self):
        with open("/dev/full", "w") as full:
            ended = subprocess.run(command("--trials", "1", "--epochs", "1", "--run-dir", self.folder / "run"), stdout=full,
                                   stderr=subprocess.PIPE, text=True)
        self.assertEqual(ended.returncode, 1)
        self.assertRegex(ended.stderr, r"\nfashion_mnist: cannot write the result: No space left on device\n\Z")

    def test_an_accuracy_is_learned_even_from_few_images(self):
        _, ended = self.finished(*SMALL, "--workers", "2")
        self.assertGreater(float(re.search(r"test_accuracy=([\d.]+)", ended.stdout)[1]), 0.7)


class Determinism(MainJob):
    def assert_same_weights(self, runs):
        first, *others = runs
        expected = weights(first)
        self.assertEqual(set(expected), {"epoch", "parameters", "optimizer"})
        for other in others:
            self.assertEqual(newest_checkpoint(first).name, newest_checkpoint(other).name)
            for name, value in weights(other).items():
                self.assertTrue(value == expected[name], f"{name} of {other} differs from that of {first}")  # no diff of megabytes

    def test_deterministic_gives_the_same_weights_for_1_2_and_4_threads_and_ranks(self):
        runs = [self.finished(*SMALL, "--deterministic", "--workers", n)[0] for n in ("1", "2", "4")]
        if MPIRUN:
            runs += [self.finished(*SMALL, "--deterministic", ranks=n)[0] for n in (1, 2, 4)]
        self.assert_same_weights(runs)

    def test_threads_and_ranks_give_the_same_weights(self):
        self.needs_mpirun()
        for n in (2, 3):
            with self.subTest(workers=n):
                arguments = [*SMALL, "--workers", str(n)]
                self.assert_same_weights([self.finished(*arguments)[0], self.finished(*arguments, ranks=n)[0]])

    def test_another_seed_gives_other_weights(self):
        one, two = (self.finished(*SMALL, "--workers", "1", *seed)[0] for seed in ([], ["--seed", "8"]))
        self.assertNotEqual(weights(one)["parameters"][-4096:], weights(two)["parameters"][-4096:])

    def test_more_workers_than_images_of_a_batch_train_too(self):
        self.finished("--trials", "1", "--epochs", "1", "--workers", "65")


class Resume(MainJob):
    ARGUMENTS = ["--trials", "4", "--epochs", "3", "--workers", "2"]

    def kill_after(self, lines, pattern, delay, *arguments, ranks=0):
        """Starts the program and kills it `delay` seconds after `lines` lines of stderr matched; False if it ended before."""
        process = subprocess.Popen(command(*arguments, ranks=ranks), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                   env=environment(), start_new_session=True)
        try:
            for line in process.stderr:
                lines -= re.match(pattern, line) is not None
                if lines <= 0:
                    break
            time.sleep(delay)
            return process.poll() is None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.stderr.close()
            process.wait()

    def assert_ends_like_an_uninterrupted_run(self, run_dir, *arguments, ranks=0):
        expected, uninterrupted = self.finished(*arguments, ranks=ranks)
        ended = self.run_well(*arguments, "--run-dir", run_dir, "--resume", ranks=ranks)
        self.assertEqual(trials(run_dir), trials(expected))
        self.assertTrue(weights(run_dir) == weights(expected), "other weights than those of an uninterrupted run")
        self.assertEqual(*(re.search(r"test_accuracy=\S+", e.stdout)[0] for e in (ended, uninterrupted)))
        self.assertEqual(list((run_dir / "train").rglob("*.tmp")), [])
        xml.etree.ElementTree.parse(run_dir / "curves.svg")

    def test_a_run_killed_at_any_instant_resumes_to_the_same_weights(self):
        numbers = random.Random(20)
        tuning, training = r"trial \d+: ", r"train: report "
        for plan in ([(1, tuning)], [(2, tuning), (2, tuning), (1, training)], [(1, training), (1, training)], [(2, training)]):
            with self.subTest(plan=plan):
                run_dir = Path(tempfile.mkdtemp(dir=SCRATCH)) / "run"
                for lines, pattern in plan:
                    self.kill_after(lines, pattern, numbers.uniform(0, 0.15), *self.ARGUMENTS, "--run-dir", run_dir, "--resume")
                self.assert_ends_like_an_uninterrupted_run(run_dir, *self.ARGUMENTS)

    def test_a_run_killed_while_it_starts_resumes_to_the_same_weights(self):
        numbers = random.Random(21)
        run_dir = self.folder / "run"
        for _ in range(6):
            self.kill_after(0, "", numbers.uniform(0, 0.4), *self.ARGUMENTS, "--run-dir", run_dir, "--resume")
        self.assert_ends_like_an_uninterrupted_run(run_dir, *self.ARGUMENTS)

    def test_ranks_killed_in_training_resume_to_the_same_weights(self):
        self.needs_mpirun()
        run_dir = self.folder / "run"
        self.kill_after(1, "train: report ", 0.05, *self.ARGUMENTS, "--run-dir", run_dir, "--resume", ranks=2)
        self.assert_ends_like_an_uninterrupted_run(run_dir, *self.ARGUMENTS, ranks=2)

    def test_resuming_a_finished_run_neither_tunes_nor_trains(self):
        first, uninterrupted = self.finished(*self.ARGUMENTS)
        run_dir = self.copy_of(first)
        ended = self.run_well(*self.ARGUMENTS, "--run-dir", run_dir, "--resume")
        self.assertEqual(*(re.search(r"test_accuracy=\S+", e.stdout)[0] for e in (ended, uninterrupted)))
        self.assertNotRegex(ended.stderr, r"(?m)^(trial \d+|train: report)")
        for name in ("tune/study.journal", "tune/reports.jsonl", "train/reports.journal", "curves.svg"):
            self.assertTrue((run_dir / name).read_bytes() == (first / name).read_bytes(), f"{name} changed")
        self.assertEqual(trials(run_dir), trials(first))
        self.assertTrue(listing(run_dir / "train/checkpoints") == listing(first / "train/checkpoints"))

    def test_a_damaged_newest_checkpoint_is_replaced_from_the_one_before(self):
        run_dir = self.copy_of(self.finished(*self.ARGUMENTS)[0])
        newest = newest_checkpoint(run_dir)
        os.truncate(newest, newest.stat().st_size // 2)
        self.assert_ends_like_an_uninterrupted_run(run_dir, *self.ARGUMENTS)

    def test_resuming_with_other_settings_is_refused(self):
        self.copy_of(self.finished(*SMALL, "--workers", "2")[0])
        for other in (["--epochs", "3"], ["--seed", "8"], ["--trials", "3"], ["--workers", "1"], ["--deterministic"]):
            with self.subTest(other=other):
                self.assert_refused(1906, *SMALL, "--workers", "2", *other, "--resume", says="--epochs 2 --trials 2 --seed 7 --workers 2;")

    def test_a_checkpoint_of_another_shape_is_refused(self):
        arguments = ["--trials", "1", "--epochs", "2", "--workers", "2"]
        by_width = {}
        for seed in range(1, 12):
            run_dir, _ = self.finished(*arguments, "--seed", str(seed))
            by_width[trials(run_dir)[0]["width"]] = seed, run_dir
            if len(by_width) == 2:
                break
        (_, other), (seed, ours) = by_width.values()
        run_dir = self.copy_of(ours)
        newest_checkpoint(run_dir).unlink()
        shutil.copy(min((other / "train/checkpoints").iterdir()), newest_checkpoint(run_dir))
        before = listing(run_dir / "train/checkpoints")
        for ranks in [0, 2] if MPIRUN else [0]:
            with self.subTest(ranks=ranks):
                ended = run(*arguments, "--seed", seed, "--run-dir", run_dir, "--resume", ranks=ranks)
                self.assertEqual(ended.returncode, 2, ended)
                errors = [line for line in ended.stderr.splitlines() if line.startswith("fashion_mnist: ")]
                self.assertEqual(len(errors), 1, ended.stderr)
                self.assertEqual(errors[0], ended.stderr.splitlines()[-1])
                self.assertRegex(errors[0], r"^fashion_mnist: \[cadre\.\w+\.\d+\] .*'parameters'.*\[cadre\.train\.814\] ")
                self.assertNotIn("test_accuracy=", ended.stdout)
                self.assertTrue(before == listing(run_dir / "train/checkpoints"), "a checkpoint changed")


if __name__ == "__main__":
    given = [a for a in sys.argv[1:] if not a.startswith("-") and os.path.exists(shutil.which(a) or a)]
    PROGRAM, MPIRUN = ([os.path.abspath(shutil.which(a) or a) for a in given] + [None, None])[:2]
    if not PROGRAM:
        sys.exit(__doc__)
    if not all((DATA / name).exists() for name in FILES):
        print("skipped: needs the Debian package dataset-fashion-mnist")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0]] + [a for a in sys.argv[1:] if a not in given])
