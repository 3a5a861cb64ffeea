"""A chat in the terminal with a server of `jaxchat serve MODEL`, by Python's own library alone.

python examples/terminal_chat.py [http://127.0.0.1:8000/v1] [KEY]
"""

import json
import sys
import urllib.request

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/v1"
headers = {"Content-Type": "application/json"}
if len(sys.argv) > 2:
    headers["Authorization"] = f"Bearer {sys.argv[2]}"
messages: list[dict[str, str]] = []
while True:
    try:
        said = input("> ").strip()
    except EOFError:
        break
    if not said:
        continue
    messages.append({"role": "user", "content": said})
    body = json.dumps({"messages": messages, "stream": True}).encode()
    answer = ""
    with urllib.request.urlopen(urllib.request.Request(f"{url}/chat/completions", body, headers)) as response:
        for line in response:
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                if "error" in event:
                    print(event["error"]["message"], file=sys.stderr)
                    break
                more = event["choices"][0]["delta"].get("content", "") if event["choices"] else ""
                print(more, end="", flush=True)
                answer += more
    print()
    messages.append({"role": "assistant", "content": answer})
