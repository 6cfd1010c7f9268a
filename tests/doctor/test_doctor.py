"""The doctor on machines that are broken: packages, drivers and devices that are made up as files.

Engines are tried in processes of their own, so a broken one is a folder on PYTHONPATH; a GPU's
driver is a program on PATH; devices are files under a root of their own.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from fmnist import system
from fmnist.doctor import doctor, engines, gpus
from fmnist.doctor.findings import ask
from fmnist.doctor.machine import check_data
from fmnist.doctor.packages import check_packages
from fmnist.errors import to_install

SOURCE = Path(doctor.__file__).parents[2]
CUDA = {"jax": "0.10.2", "jaxlib": "0.10.2", "jax-cuda13-plugin": "0.10.2"}
ROCM = {"jax": "0.10.2", "jaxlib": "0.10.2", "jax-rocm7-plugin": "0.10.2"}
BROKEN = "raise ImportError('libfoo.so.1: cannot open shared object file')\n"
KILLS_ITSELF = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
HANGS = "import time\ntime.sleep(600)\n"


def package(place, name, code):
    (place / name).mkdir(parents=True)
    (place / name / "__init__.py").write_text(code)
    return place


def run_doctor(*arguments, **environment):
    """`fmnist doctor --json` in a process of its own, and its findings by what they are about."""
    done = subprocess.run(
        [sys.executable, "-m", "fmnist", "doctor", "--json", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE), **environment},
    )
    assert done.stdout.count("\n") == 1, done.stderr
    said = json.loads(done.stdout)
    assert said["healthy"] == (done.returncode == 0)
    findings = {}
    for each in said["findings"]:
        assert each["about"] == each["about"].strip()
        findings.setdefault(each["about"], []).append(each)
    return done, findings


def only(findings, about):
    (found,) = [each for each in findings if each.about == about]
    return found


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """Tries an engine whose module is `code`, as the doctor does."""

    def diagnosed(code, seconds=600.0, name="jax", **environment):
        path = package(tmp_path / "fake", name, code)
        # First of all, but only for the processes that are started.
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(path), str(SOURCE)]))
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        (found,) = engines._engine(name, {"jax": "0.10.2", "jaxlib": "0.10.2"}, False, seconds)
        return found

    return diagnosed


# engines


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        (BROKEN, "ImportError: libfoo.so.1: cannot open shared object file"),
        (KILLS_ITSELF, "killed by signal 11"),
        ("import os; os._exit(3)\n", "ended with exit code 3"),
        ("print('no JSON')\nprint('{}')\n__version__ = '1'\n", "get_available_providers"),
    ],
)
def test_engine_that_does_not_load(engine, code, fault):
    """And works once the variables are gone that send it to other files."""
    found = engine(code, name="onnxruntime", LD_LIBRARY_PATH="/nowhere")
    assert found.level == "wrong"
    assert found.found.startswith("import onnxruntime: ")
    assert fault in found.found
    assert found.found.endswith("; works without LD_LIBRARY_PATH, PYTHONPATH")
    assert found.mend == "unset LD_LIBRARY_PATH PYTHONPATH"


def test_engine_that_hangs_is_left_at_the_limit(engine):
    begin = time.monotonic()
    found = engine(HANGS, seconds=0.5)
    assert time.monotonic() - begin < 300  # of 600
    assert found.level == "wrong"
    assert "no answer within 0.5 s" in found.found
    assert found.mend == 'pip install --force-reinstall --no-deps "jax==0.10.2" "jaxlib==0.10.2"'


def test_a_command_that_leaves_children_is_left_too():
    script = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()']); print(1)"
    begin = time.monotonic()
    assert ask([sys.executable, "-c", script], 600).out == "1\n"
    assert time.monotonic() - begin < 300  # of 600
    assert ask(["/nowhere/at-all"], 1).code == 127


def test_table_has_a_line_a_finding_and_what_mends_it_below():
    findings = [
        doctor.Finding("python", "ok", "3.11.7"),
        doctor.Finding("jax", "wrong", "import jax: no", "pip install jax"),
    ]
    assert list(doctor.lines(findings)) == [
        "python  ok     3.11.7",
        "jax     WRONG  import jax: no",
        "               pip install jax",
    ]


# packages


def made_up(place, name, version, *requires):
    """Metadata of a distribution, as an installer leaves it."""
    folder = place / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    lines += [f"Requires-Dist: {line}" for line in requires]
    (folder / "METADATA").write_text("\n".join(lines) + "\n")


def test_packages_that_do_not_fit(tmp_path, monkeypatch):
    keras = 'extra == "keras"'
    made_up(
        tmp_path,
        "fmnist",
        "0.1.0",
        "numpy>=2",
        f"keras==3.15.*; {keras}",
        'fmnist[keras]; extra == "jax"',
        'jax>=0.10; extra == "jax"',
        'ray>=2; extra == "cluster"',
    )
    made_up(tmp_path, "numpy", "1.26.0")
    made_up(tmp_path, "keras", "3.15.1", "namex")
    made_up(tmp_path, "jax", "0.10.2", "jaxlib<=0.10.2,>=0.10.1", 'libtpu; extra == "tpu"')
    made_up(tmp_path, "jaxlib", "0.9.0")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    installed = {
        "fmnist": "0.1.0",
        "numpy": "1.26.0",
        "keras": "3.15.1",
        "jax": "0.10.2",
        "jaxlib": "0.9.0",
    }
    found = {each.found: each for each in check_packages(installed)}
    assert {each.level for each in found.values()} == {"wrong"}
    assert {each.mend for each in found.values()} == {
        'pip install "numpy>=2"',
        'pip install "namex"',
        'pip install "jaxlib<=0.10.2,>=0.10.1"',
    }
    assert "jaxlib 0.9.0 is installed, but jax needs <=0.10.2,>=0.10.1" in found
    assert "keras needs namex, which is missing" in found


def test_two_packages_of_the_same_files_are_told(tmp_path, monkeypatch):
    """pip puts tensorflow-cpu over tensorflow, whose GPU code is gone then, and says nothing."""
    installed = {"fmnist": "0.1.0", "keras": "3.15.1", "tensorflow": "2.21.0"}
    made_up(tmp_path, "fmnist", "0.1.0", 'keras==3.15.*; extra == "keras"')
    for name in ("keras", "tensorflow", "tensorflow-cpu"):
        made_up(tmp_path, name, installed.get(name, "2.21.0"))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    (fits,) = check_packages(installed)
    assert fits.level == "ok"
    fits, both = check_packages(installed | {"tensorflow-cpu": "2.21.0"})
    assert (fits.level, both.level) == ("ok", "note")
    assert "tensorflow 2.21.0 and tensorflow-cpu 2.21.0 are both installed" in both.found
    assert both.mend == (
        'pip uninstall --yes tensorflow tensorflow-cpu && pip install "tensorflow==2.21.0"'
    )


@pytest.mark.parametrize(
    ("chosen", "there", "mend"),
    [
        ("tensorflow", {"keras", "jax"}, "export KERAS_BACKEND=jax"),
        ("tensorflow", {"keras"}, to_install("train")),
        ("jax", {"keras"}, to_install("jax")),
    ],
)
def test_the_chosen_engine_is_missing(monkeypatch, chosen, there, mend):
    monkeypatch.setenv("KERAS_BACKEND", chosen)
    monkeypatch.setattr(engines, "find_spec", lambda name: name if name in there else None)
    monkeypatch.setattr(engines, "_engine", lambda name, *_: [doctor.Finding(name, "ok", "")])
    found = engines.check_backend({}, False, 1)[0]
    assert (found.about, found.level, found.mend) == ("backend", "wrong", mend)


def test_base_install_alone_is_healthy(tmp_path, monkeypatch):
    made_up(tmp_path, "fmnist", "0.1.0", "numpy>=2", 'keras==3.15.*; extra == "train"')
    made_up(tmp_path, "numpy", "2.4.6")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    base, train = check_packages({"fmnist": "0.1.0", "numpy": "2.4.6"})
    assert (base.level, train.level) == ("ok", "note")
    assert train.mend == 'pip install -e ".[train]"  # in the checkout'


# accelerators


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """A program of that name, first on PATH, that runs a script."""

    def place(script):
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    return place


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root" / "dev").mkdir(parents=True)
    return tmp_path / "root"


def write(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("driver", "installed", "level", "mend"),
    [
        ("580.65.06", CUDA, "ok", ""),
        ("595.10", {}, "note", to_install("cuda")),
        (
            "535.104.05",
            CUDA,
            "wrong",
            "pip uninstall --yes jax-cuda13-plugin jax-cuda13-pjrt && "
            'pip install -e ".[keras]" "jax[cuda12]"  # in the checkout',
        ),
        ("535.104.05", {}, "note", to_install("keras", "jax[cuda12]")),
        ("470.57.02", CUDA, "wrong", gpus.NEW_DRIVER),
        ("535.104.05", {"jaxlib": "0.10.2", "jax-cuda12-plugin": "0.10.2"}, "ok", ""),
    ],
)
def test_nvidia_driver_against_the_plugin(nvidia_smi, root, driver, installed, level, mend):
    nvidia_smi(f"echo 'NVIDIA H100 80GB HBM3, {driver}'")
    findings, expects_gpu = gpus.check(installed, root)
    found = only(findings, "NVIDIA")
    assert (found.level, found.mend) == (level, mend)
    assert f"NVIDIA H100 80GB HBM3, driver {driver}" in found.found
    assert expects_gpu == (level == "ok")


def test_nvidia_driver_that_was_changed_under_the_kernel(nvidia_smi, root):
    nvidia_smi("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    found = only(gpus.check(CUDA, root)[0], "NVIDIA")
    assert (found.level, found.mend) == ("wrong", "sudo reboot")
    assert "version mismatch" in found.found


def test_command_tells_of_all_that_is_broken(nvidia_smi, tmp_path):
    nvidia_smi("echo 'Tesla T4, 450.80.02'")
    for name, code in (("tensorflow", KILLS_ITSELF), ("jax", BROKEN), ("onnxruntime", HANGS)):
        package(tmp_path / "fake", name, code)
    made_up(tmp_path / "fake", "jax-cuda13-plugin", "0.10.2")
    (tmp_path / "data").mkdir()
    done, findings = run_doctor(
        "--time-limit",
        "1",
        PYTHONPATH=f"{tmp_path / 'fake'}{os.pathsep}{SOURCE}",
        KERAS_BACKEND="torch",
        FMNIST_DATA=str(tmp_path / "data"),
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: broken: ")
    broken = {"NVIDIA", "backend", "onnxruntime", "tensorflow", "jax", "data"}
    assert broken <= set(line.removeprefix("error: broken: ").split(", "))
    for name in broken:
        (found,) = findings[name]
        assert found["level"] == "wrong"
        assert found["mend"]
    assert "Tesla T4, driver 450.80.02: CUDA 13 needs 580" in findings["NVIDIA"][0]["found"]
    assert findings["NVIDIA"][0]["mend"] == gpus.NEW_DRIVER
    assert findings["backend"][0]["mend"] == "unset KERAS_BACKEND"
    assert findings["data"][0]["mend"] == "unset FMNIST_DATA"


def test_data_is_not_looked_for_where_what_reads_it_is_missing(monkeypatch):
    from fmnist.data import sources

    assert sources
    monkeypatch.delattr("fmnist.data.sources")
    monkeypatch.setitem(sys.modules, "fmnist.data.sources", None)
    monkeypatch.delenv("FMNIST_DATA", raising=False)
    found = check_data()
    assert (found.level, found.mend) == ("note", "")
    assert "fmnist.data.sources is missing" in found.found


def test_nvidia_card_without_a_driver(root):
    card = root / "sys/bus/pci/devices/0000:01:00.0"
    write(card / "vendor", "0x10de\n")
    write(card / "class", "0x030200\n")
    found = only(gpus.check({}, root)[0], "NVIDIA")
    assert (found.level, found.mend) == ("note", gpus.NEW_DRIVER)
    write(root / ".dockerenv")
    found = only(gpus.check(CUDA, root)[0], "NVIDIA")
    assert (found.level, found.mend) == ("wrong", "docker run --gpus all …")


@pytest.mark.parametrize(
    "kernel",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  "
        "Sat Aug 19 01:15:15 UTC 2023\n",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.104.05  "
        "Release Build  (dvs)\n",
    ],
)
def test_nvidia_driver_by_the_kernel_where_there_is_no_program(root, kernel):
    write(root / "dev/nvidia0")
    write(root / "proc/driver/nvidia/version", kernel)
    found = only(gpus.check(CUDA, root)[0], "NVIDIA")
    assert found.values["driver"] == "535.104.05"


def test_other_cuda_libraries_on_the_search_path(nvidia_smi, root, tmp_path, monkeypatch):
    nvidia_smi("echo 'NVIDIA L4, 580.65.06'")
    write(tmp_path / "cuda-11/libcudnn.so.8")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/nowhere:{tmp_path / 'cuda-11'}")
    found = only(gpus.check(CUDA, root)[0], "LD_LIBRARY_PATH")
    assert (found.level, found.mend) == ("note", "unset LD_LIBRARY_PATH")
    assert "libcudnn.so.8" in found.found


def test_plugins_of_both_makers(root):
    both = CUDA | ROCM
    found = only(gpus.check(both, root)[0], "plugins")
    assert found.mend == "pip uninstall --yes jax-rocm7-plugin jax-rocm7-pjrt"
    write(root / "dev/kfd")
    found = only(gpus.check(both, root)[0], "plugins")
    assert found.mend == "pip uninstall --yes jax-cuda13-plugin jax-cuda13-pjrt"


def test_plugin_of_another_version_than_jaxlib(root):
    found = only(gpus.check(CUDA | {"jax-cuda13-plugin": "0.9.1"}, root)[0], "plugins")
    assert (found.level, found.mend) == (
        "wrong",
        'pip install "jax-cuda13-plugin[with-cuda]==0.10.2" "jax-cuda13-pjrt==0.10.2"',
    )


def test_jax_that_sees_no_gpu_although_all_fits(tmp_path, monkeypatch):
    """The real engine, on a machine without a GPU."""
    pytest.importorskip("jax")
    for name in engines.MISLEADING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    (found,) = engines._engine("jax", {"jax": "0.10.2"}, True, 150)
    assert found.level == "wrong"
    assert "finds no GPU" in found.found
    assert found.values["precision"] == "float32"  # all else was measured
    assert found.values["rates"]["float32"] > 1e8


@pytest.mark.parametrize(
    ("version", "installed", "level", "mend"),
    [
        ("7.1.0-43", ROCM, "ok", ""),
        ("7.1.0-43", {}, "note", to_install("rocm")),
        ("6.4.1-83", ROCM, "wrong", "sudo apt install rocm"),
        ("", ROCM, "wrong", "sudo apt install rocm"),
    ],
)
def test_rocm_against_the_plugin(root, monkeypatch, version, installed, level, mend):
    monkeypatch.delenv("ROCM_PATH", raising=False)
    write(root / "dev/kfd")
    if version:
        write(root / "opt/rocm/.info/version", f"{version}\n")
    findings, expects_gpu = gpus.check(installed, root)
    found = only(findings, "AMD")
    assert (found.level, found.mend) == (level, mend)
    assert expects_gpu == (level == "ok")


def test_amd_device_that_is_closed_to_this_user():
    """In a process that changes its user where this one is root, whom no file is closed to."""
    code = (
        "import os, sys; from pathlib import Path; from fmnist.doctor.gpus import check\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"found = check({ROCM}, Path(sys.argv[1]))[0][-1]\n"
        "print(found.about, found.level, found.mend)"
    )
    with tempfile.TemporaryDirectory() as folder:  # pytest's are closed to others
        root = Path(folder)
        root.chmod(0o755)
        write(root / "dev/kfd")
        (root / "dev/kfd").chmod(0)
        done = subprocess.run(
            [sys.executable, "-c", code, folder],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )
    assert done.stdout.startswith("AMD wrong sudo usermod --append --groups render,video"), (
        done.stderr
    )


def test_amd_card_without_its_driver(root):
    card = root / "sys/bus/pci/devices/0000:03:00.0"
    write(card / "vendor", "0x1002\n")
    write(card / "class", "0x038000\n")
    found = only(gpus.check(ROCM, root)[0], "AMD")
    assert (found.level, found.mend) == ("wrong", "sudo modprobe amdgpu")


# control groups


def test_limits_of_control_groups_new_and_old(tmp_path):
    root = tmp_path
    write(root / "proc/self/cgroup", "4:memory:/a/b\n2:cpu,cpuacct:/\n0::/outer/inner\n")
    write(root / "sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1000\n")
    write(root / "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    write(root / "sys/fs/cgroup/outer/memory.max", "max\n")
    write(root / "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "150000\n")
    asked = ("memory.max", "memory", "memory.limit_in_bytes")
    assert system.group_settings(*asked, root) == ["1000", "9223372036854771712", "max"]
    assert system.group_settings("cpu.max", "cpu", "cpu.cfs_quota_us", root) == ["150000"]
