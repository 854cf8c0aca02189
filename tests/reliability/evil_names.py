"""Forty names that lead out of a folder, or that some system takes for something else."""

NAMES = (
    "../out.safetensors", "../../out.safetensors", "a/../../out.safetensors", "./../out.safetensors", "..", ".", "",
    "..\\out.safetensors", "a\\..\\..\\out.safetensors", "\\out.safetensors", "/out.safetensors", "//host/share/out.safetensors",
    "\\\\host\\share\\out.safetensors", "\\\\?\\C:\\out.safetensors", "C:\\out.safetensors", "C:out.safetensors", "c:/out.safetensors",
    "~/out.safetensors", "~root/out.safetensors", "$HOME/out.safetensors", "%TEMP%\\out.safetensors", "file:///out.safetensors",
    "http://127.0.0.1/out.safetensors", "out.safetensors\x00.txt", "out\n.safetensors", "out\r.safetensors", "\u202eout.safetensors",
    "．．/out.safetensors", "．．／out.safetensors", "..%2fout.safetensors", "%2e%2e/out.safetensors", "NUL.safetensors", "con.safetensors",
    "COM1.safetensors", "lpt9.safetensors", "out.safetensors.", "out.safetensors ", " out.safetensors", "-rf.safetensors",
    ".hidden.safetensors", "x" * 300 + ".safetensors", "out.safetensors:stream", "a/b.safetensors", "out.py", "/dev/zero",
    "/proc/self/mem", "|touch out.safetensors",
)  # fmt: skip
