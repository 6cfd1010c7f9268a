"""GPUs, their drivers and JAX's plugins for them: mismatches, and the command that fixes each.

Nothing here loads an engine. `root` is where the system's files are, / but in tests.
"""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from fmnist.doctor.findings import Finding, ask
from fmnist.errors import to_install

# The oldest driver by CUDA's major version, of JAX's installation guide.
DRIVERS = {13: 580, 12: 525}
PLUGIN = re.compile(r"jax-(?:(cuda)(\d+)|(rocm)(\d)0?)-plugin")  # rocm60 was for ROCm 6
NEW_DRIVER = "sudo apt install nvidia-driver-580 && sudo reboot"
# Libraries that the plugin's own packages bring, and that a search path would put others before.
CUDA_LIBRARIES = re.compile(r"lib(cudart|cublas|cudnn|cufft|cusolver|cusparse|nccl)\w*\.so")


def plugins(installed: Mapping[str, str], kind: str) -> list[tuple[str, int]]:
    """JAX's installed plugins for `kind`, cuda or rocm: name, major version of what it needs."""
    found = [PLUGIN.fullmatch(name) for name in sorted(installed)]
    return [
        (match[0], int(match[2] or match[4]))
        for match in found
        if match and kind in (match[1], match[3])
    ]


def check(installed: Mapping[str, str], root: Path = Path("/")) -> tuple[list[Finding], bool]:
    """Findings about GPUs, and whether JAX should see one; `installed`: versions by package."""
    nvidia, nvidia_fits = _nvidia(installed, root)
    amd, amd_fits = _amd(installed, root)
    return [*_clashes(installed, root), *nvidia, *amd], nvidia_fits or amd_fits


def _clashes(installed: Mapping[str, str], root: Path) -> list[Finding]:
    findings = []
    cuda, rocm = plugins(installed, "cuda"), plugins(installed, "rocm")
    names = [name for name, _ in cuda + rocm]
    if len(names) > 1:
        # Of two for CUDA the newer stays; of CUDA and ROCm the one whose device is there.
        keep = max(rocm if rocm and (root / "dev/kfd").exists() else cuda or rocm, key=_major)[0]
        go = [name for name in names if name != keep]
        words = " ".join(f"{name} {name.replace('plugin', 'pjrt')}" for name in go)
        findings.append(
            Finding(
                "plugins",
                "wrong",
                f"{' and '.join(names)} are both installed, but only one can work",
                f"pip uninstall --yes {words}",
            )
        )
    jaxlib = installed.get("jaxlib", "")
    for name, _ in cuda:  # those for ROCm have versions of their own
        if jaxlib and _numbers(installed[name]) != _numbers(jaxlib):
            pins = f'"{name}[with-cuda]=={jaxlib}" "{name.replace("plugin", "pjrt")}=={jaxlib}"'
            findings.append(
                Finding(
                    "plugins",
                    "wrong",
                    f"{name} {installed[name]}, jaxlib {jaxlib}: JAX "
                    "needs both in the same version",
                    f"pip install {pins}",
                )
            )
    return findings


def _major(plugin: tuple[str, int]) -> int:
    return plugin[1]


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)[:3]]


def _has_card(root: Path, vendor: str) -> bool:
    """Whether a display or compute controller of a vendor is on the PCI bus."""
    for device in (root / "sys/bus/pci/devices").glob("*"):
        try:
            kind = (device / "class").read_text(encoding="ascii").strip()
            maker = (device / "vendor").read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if maker == vendor and kind.startswith(("0x03", "0x12")):
            return True
    return False


def _in_container(root: Path) -> bool:
    return any((root / name).exists() for name in (".dockerenv", "run/.containerenv"))


def _nvidia(installed: Mapping[str, str], root: Path) -> tuple[list[Finding], bool]:
    ours = plugins(installed, "cuda")
    broken = "wrong" if ours else "note"
    smi = shutil.which("nvidia-smi")
    device = (root / "dev/nvidia0").exists()
    if not (smi or device or _has_card(root, "0x10de")):
        text = f"{ours[0][0]} is installed, but no NVIDIA GPU was found" if ours else "none"
        return [Finding("NVIDIA", "note" if ours else "ok", text)], False
    driver, name = _driver_file(root), "NVIDIA GPU"
    if smi:
        query = ["--query-gpu=name,driver_version", "--format=csv,noheader"]
        answer = ask([smi, *query], 20)
        lines = [line.rsplit(",", 1) for line in answer.out.splitlines() if "," in line]
        if answer.code != 0 or not lines:
            said = answer.complaint() or answer.out.strip() or "nothing"
            if answer.code is None:
                said = "no answer within 20 s"
            stale = "version mismatch" in answer.out + answer.err or answer.code is None
            mend = "sudo reboot" if stale else "sudo modprobe nvidia"
            return [Finding("NVIDIA", broken, f"nvidia-smi: {said}", mend)], False
        several = f"{len(lines)} × " if len(lines) > 1 else ""
        name, driver = several + lines[0][0].strip(), lines[0][1].strip()
    if not driver or not (device or smi):
        if _in_container(root):
            text, mend = "a GPU that the container has no access to", "docker run --gpus all …"
        else:
            text, mend = "a GPU without a driver (not on Ubuntu: get it from NVIDIA)", NEW_DRIVER
        return [Finding("NVIDIA", broken, text, mend)], False
    values = {"name": name, "driver": driver}
    major = _numbers(driver)[0]
    needs = max(ours, key=_major)[1] if ours else 13
    if major < DRIVERS.get(needs, 0):
        text = f"{name}, driver {driver}: CUDA {needs} needs {DRIVERS[needs]} or newer"
        mend = NEW_DRIVER
        if needs == 13 and major >= DRIVERS[12]:
            gone = "pip uninstall --yes jax-cuda13-plugin jax-cuda13-pjrt && " if ours else ""
            text += "; CUDA 12 works with this driver"
            mend = gone + to_install("keras", "jax[cuda12]")
        return [Finding("NVIDIA", broken, text, mend, values)], False
    text = f"{name}, driver {driver}"
    if not ours:
        text += "; JAX's plugin for it is not installed"
        return [Finding("NVIDIA", "note", text, to_install("cuda"), values)], False
    findings = [Finding("NVIDIA", "ok", text, "", values)]
    for folder in filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":")):
        names = sorted(path.name for path in Path(folder).glob("lib*.so*"))
        if found := [each for each in names if CUDA_LIBRARIES.match(each)]:
            text = f"{folder} has {found[0]}, which is loaded instead of the one that JAX installed"
            findings.append(Finding("LD_LIBRARY_PATH", "note", text, "unset LD_LIBRARY_PATH"))
    return findings, True


def _driver_file(root: Path) -> str:
    """The driver's version as the kernel states it; empty where there is none."""
    try:
        text = (root / "proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    match = re.search(r"Kernel Module\D*?(?:x86_64|aarch64)?\s+(\d+(?:\.\d+)+)", text)
    return match[1] if match else ""


def _amd(installed: Mapping[str, str], root: Path) -> tuple[list[Finding], bool]:
    ours = plugins(installed, "rocm")
    broken = "wrong" if ours else "note"
    kfd = root / "dev/kfd"
    if not kfd.exists():
        if not _has_card(root, "0x1002"):
            text = f"{ours[0][0]} is installed, but no AMD GPU was found" if ours else "none"
            return [Finding("AMD", "note" if ours else "ok", text)], False
        if _in_container(root):
            text = "a GPU that the container has no access to"
            mend = "docker run --device /dev/kfd --device /dev/dri --group-add video …"
        else:
            text, mend = "a GPU without /dev/kfd: its driver is not loaded", "sudo modprobe amdgpu"
        return [Finding("AMD", broken, text, mend)], False
    nodes = [kfd, *sorted((root / "dev/dri").glob("renderD*"))]
    if shut := [node for node in nodes if not os.access(node, os.R_OK | os.W_OK)]:
        text = f"/{shut[0].relative_to(root)} is closed to this user, who is not in its group"
        mend = "sudo usermod --append --groups render,video $USER    # then log in anew"
        return [Finding("AMD", broken, text, mend)], False
    version = _rocm(installed, root)
    if not ours:
        text = f"a GPU, ROCm {version or 'not installed'}; JAX's plugin for it is not installed"
        return [Finding("AMD", "note", text, to_install("rocm"))], False
    name, needs = ours[0]
    if not version:
        text = f"a GPU, but no ROCm {needs}, which {name} needs (from AMD's package repository)"
        return [Finding("AMD", "wrong", text, "sudo apt install rocm")], False
    if _numbers(version)[0] != needs:
        text = f"ROCm {version} is installed, but {name} needs ROCm {needs}"
        return [Finding("AMD", "wrong", text, "sudo apt install rocm", {"rocm": version})], False
    return [Finding("AMD", "ok", f"a GPU, ROCm {version}", "", {"rocm": version})], True


def _rocm(installed: Mapping[str, str], root: Path) -> str:
    """ROCm's version, from the system or from Python packages; empty where there is none."""
    place = os.environ.get("ROCM_PATH")
    try:
        file = (Path(place) if place else root / "opt/rocm") / ".info/version"
        text = file.read_text(encoding="ascii", errors="replace")
    except OSError:
        text = installed.get("rocm-sdk-core", "")
    match = re.match(r"\d+(?:\.\d+)+", text.strip())
    return match[0] if match else ""
