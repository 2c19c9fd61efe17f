"""The tests that compare numbers, as other processors would compute them: `tools/other_processors.py [--only SETTING]... [--out FILE]`.

Builds the tests once and runs them under every setting below: instruction sets that ATen, oneDNN, MKL and glibc are held to, and
`other_processors/one_ulp_off.c`, under which what they compute ends one unit in the last place off. Instruction sets that this
processor lacks are left out. Says for each setting how many tests passed and which failed; `--out` writes that as JSON. Needs cargo,
a C compiler and libtorch in `.libtorch` (`cargo xtask setup`) or where LIBTORCH says; takes a few minutes a setting.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Of the binary's tests those that compare numbers; the others write files, take locks and print errors.
CLI = ["attend::", "compare::", "diffseg::", "flux::", "guidance::", "metrics::", "rank::", "sd::", "segment::", "shards::", "show::", "sweep::"]
# Test targets and what of them is run; None is all.
TARGETS = {
    ("markov-core", "lib"): None,
    ("markov-core", "markov-core"): ["known_answers::", "matrix_free::", "metastable::", "properties::", "torch::"],
    ("models", "lib"): ["diffusion", "flow_match", "flux", "image", "inception", "nn", "noise", "probe", "sd", "t5", "vae", "vision"],
    ("models", "models"): [
        "attend::", "flow_match::", "flux_golden::", "flux_pipeline::", "flux_probes::", "image_golden::", "inception_golden::",
        "samplers::", "sd_pipeline::", "t5_golden::", "unet_golden::", "vae_golden::", "vision_golden::", "weights::",
    ],
    ("models", "flux_memory"): None,
    ("tasks", "lib"): None, ("tasks", "tasks"): None,
    ("eval", "lib"): ["metrics", "show", "plot", "table", "compare", "analysis"],
    ("eval", "eval"): None,
    ("cli", "cli"): CLI,
}

OLDEST = {
    "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-AVX,-FMA,-FMA4,-AVX512F",
}
SETTINGS = {
    "as it is": {},
    **{f"ATen {isa}": {"ATEN_CPU_CAPABILITY": isa} for isa in ("default", "avx2", "avx512")},
    **{f"oneDNN {isa}": {"ONEDNN_MAX_CPU_ISA": isa} for isa in ("SSE41", "AVX2", "AVX512_CORE")},
    **{f"MKL {isa}": {"MKL_ENABLE_INSTRUCTIONS": isa} for isa in ("SSE4_2", "AVX2", "AVX512")},
    **{f"MKL branch {isa}": {"MKL_CBWR": isa} for isa in ("COMPATIBLE", "AVX2", "AVX512")},
    "glibc without AVX and FMA": {"GLIBC_TUNABLES": OLDEST["GLIBC_TUNABLES"]},
    "the oldest of all": OLDEST,
    **{f"one ulp off, draw {seed}": {"ULP_SEED": str(seed)} for seed in (1, 2, 3)},
    "the oldest of all, one ulp off": {**OLDEST, "ULP_SEED": "4"},
}
NEEDS = {"avx2": "avx2", "AVX2": "avx2", "avx512": "avx512f", "AVX512": "avx512f", "AVX512_CORE": "avx512bw"}


def processor():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    find = lambda name: re.search(rf"^{name}\s*:\s*(.*)$", text, re.M).group(1)
    return {"name": find("model name"), "family": int(find("cpu family")), "model": int(find("model"))}, set(find("flags").split())


def built():
    """Executables of the test targets by package and name, and the folder to run each in."""
    command = ["cargo", "test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]
    found = {}
    for line in subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines():
        message = json.loads(line)
        if message["reason"] == "compiler-artifact" and message["profile"]["test"] and message["executable"]:
            folder = pathlib.Path(message["manifest_path"]).parent
            name = "lib" if message["target"]["kind"] == ["lib"] else message["target"]["name"]
            found[(folder.name, name)] = (message["executable"], folder)
    return found


def run(executable, folder, filters, environment):
    """How many tests passed, and the failed ones with the first line of what they said."""
    command = [executable, "--test-threads", "2", *(filters or [])]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    text = done.stdout
    counts = re.findall(r"^test result: \w+\. (\d+) passed; (\d+) failed", text, re.M)
    said = dict(re.findall(r"^---- (\S+) stdout ----\n(?:\n|thread .* panicked .*\n)*(.*)$", text, re.M))
    failed = {name: said.get(name, "")[:300] for name in re.findall(r"^test (\S+) \.\.\. FAILED$", text, re.M)}
    if not counts and done.returncode:
        failed["(ended early)"] = text[-300:]
    return sum(int(passed) for passed, _ in counts), failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", action="append", help="a setting by its name, or the beginning of it")
    parser.add_argument("--target", action="append", help="a test target by its name, such as models/samplers")
    parser.add_argument("--out", type=pathlib.Path, help="file for the results")
    args = parser.parse_args()
    name, flags = processor()
    libtorch = pathlib.Path(os.environ.get("LIBTORCH") or ROOT / ".libtorch/torch")
    executables = built()
    chosen = [f"{package}/{target}" for package, target in TARGETS if not args.target or f"{package}/{target}" in args.target]
    results = {"processor": name, "targets": chosen, "settings": {}}
    with tempfile.TemporaryDirectory() as scratch:
        library, log = pathlib.Path(scratch) / "one_ulp_off.so", pathlib.Path(scratch) / "calls"
        source = ROOT / "tools/other_processors/one_ulp_off.c"
        subprocess.run(["cc", "-O2", "-fno-builtin", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        for setting, variables in SETTINGS.items():
            if args.only and not any(setting.startswith(one) for one in args.only):
                continue
            lacking = {NEEDS[value] for value in variables.values() if value in NEEDS} - flags
            if lacking:
                print(f"{setting}: left out, this processor has no {', '.join(lacking)}")
                continue
            environment = {**os.environ, **variables, "LD_LIBRARY_PATH": str(libtorch / "lib"), "LIBTORCH": str(libtorch)}
            if "ULP_SEED" in variables:
                environment |= {"LD_PRELOAD": str(library), "ULP_LOG": str(log)}
            log.write_text("")
            passed, failed = 0, {}
            for (package, target), filters in TARGETS.items():
                where = f"{package}/{target}"
                if where not in chosen:
                    continue
                executable, folder = executables[(package, target)]
                good, bad = run(executable, folder, filters, environment)
                passed += good
                failed |= {f"{where} {test}": said for test, said in bad.items()}
            replaced = sorted({line.split()[0] for line in log.read_text().splitlines()})
            results["settings"][setting] = {
                "environment": variables, "passed": passed, "failed": failed, **({"replaced": replaced} if replaced else {}),
            }
            print(f"{setting}: {passed} passed, {len(failed)} failed", flush=True)
            for test, said in failed.items():
                print(f"  {test}: {said}", flush=True)
            if args.out:
                args.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    return 1 if any(one["failed"] for one in results["settings"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
