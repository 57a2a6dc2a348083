# usage: qmp.py RINGSIDE KERNEL DIR: prints "ok NAME" or "not-ok NAME" lines. KERNEL echoes its serial line.
import os, subprocess, sys, time

sys.path.append(os.path.dirname(os.path.abspath(__file__)) + "/..")
sys.dont_write_bytecode = True
from qmp_client import Client, connect

ringside, kernel, where = sys.argv[1:4]
qmp_path, line_path = where + "/qmp", where + "/line"


def verdict(good, name, why=""):
    print("ok" if good else "not-ok", "qmp: " + name)
    if not good:
        print("#", why)


child = subprocess.Popen([ringside, "run", "--kernel", kernel, "--memory", "64M", "--serial", "unix:" + line_path,
                          "--qmp", "unix:" + qmp_path], stdin=subprocess.DEVNULL)
control = Client(qmp_path)
verdict("version" in control.greeting.get("QMP", {}), "greeting", control.greeting)
a = control.ask('{"execute": "query-status"}')
verdict(a["error"]["class"] == "CommandNotFound", "nothing before the capabilities", a)
a = control.ask('{"execute": "qmp_capabilities", "id": [1]}')
verdict(a == {"return": {}, "id": [1]}, "capabilities, with the id given back", a)
control.send('{"execute":\n"query-')
time.sleep(0.2)
a = control.ask('status"}')
verdict(a["return"]["status"] == "running" and a["return"]["running"], "a command in two pieces", a)
a = control.ask('{"execute": "query-status"}{"execute": "query-version"}')
b = control.answer()
verdict("status" in a["return"] and "qemu" in b["return"], "two commands in one piece", (a, b))
for name, text in (("no JSON", "}"), ("no object", "[1]"), ("no command", "{}"), ("arguments that are no object",
                   '{"execute": "quit", "arguments": 1}'), ("deep", "[" * 100), ("unknown", '{"execute": "fly"}')):
    a = control.ask(text)
    verdict("error" in a, name, a)
control.send('{"execute": "' + "x" * 70000)
a = control.answer()
verdict("longer than" in a["error"]["desc"], "a command without end", a)
time.sleep(0.2)
control.send("\n")
control.close()

control = Client(qmp_path)
a = control.ask('{"execute": "query-status"}')
verdict("QMP" in control.greeting and "error" in a, "the next client is greeted and has to negotiate", (control.greeting, a))
control.ask('{"execute": "qmp_capabilities"}')
names = [c["name"] for c in control.ask('{"execute": "query-commands"}')["return"]]
verdict("quit" in names and len(names) == len(set(names)), "query-commands", names)

line = connect(line_path)
line.sendall(b"hello")
got = b""
while len(got) < 5:
    got += line.recv(100)
verdict(got == b"hello", "a serial line on a socket", got)
a = control.ask('{"execute": "system_reset"}')
b = control.answer()
verdict(a == {"return": {}} and b["event"] == "RESET" and b["data"] == {"guest": False, "reason": "host-qmp-system-reset"}, "system_reset", (a, b))
line.sendall(b"again")
got = b""
while len(got) < 5:
    got += line.recv(100)
verdict(got == b"again", "clients stay over a reset", got)
a = control.ask('{"execute": "system_powerdown"}')
b = control.answer()
verdict("POWERDOWN" in (a.get("event"), b.get("event")), "system_powerdown", (a, b))
a = control.ask('{"execute": "quit"}')
b = control.answer()
verdict(child.wait(60) == 0 and b["event"] == "SHUTDOWN" and b["data"]["reason"] == "host-qmp-quit" and not os.path.exists(qmp_path), "quit", (a, b))
