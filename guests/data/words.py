"""Run by guests/run-big.sh: the words of a file, through the standard library of CPython."""

import collections
import hashlib
import json
import pathlib
import re
import struct
import sys

text = pathlib.Path(sys.argv[1]).read_text()
words = re.findall(r"[a-z]+", text.lower())
top = collections.Counter(words).most_common()
top.sort(key=lambda pair: (-pair[1], pair[0]))
print(json.dumps({"words": len(words), "top": dict(top[:3])}))
print(hashlib.sha256(text.encode()).hexdigest()[:16])
print(struct.pack(">d", sum(len(w) ** 0.5 for w in words)).hex())
try:
    pathlib.Path("/data/../../etc/passwd").read_text()
except OSError as error:
    print("outside:", type(error).__name__)
sys.exit(3)
