# Sourced by run: the control socket and serial lines on sockets, with a guest that echoes.

timeout 120 python3 tests/cli/qmp.py "$ringside" "$tmp/echo" "$tmp" >"$tmp/out" 2>&1
while read -r verdict name; do
	case $verdict in ok | not-ok) result "$verdict" "$name" ;; *) echo "# $verdict $name" ;; esac
done <"$tmp/out"
grep -qx "ok qmp: quit" "$tmp/out" || result not-ok "qmp: the test came to its end"

refused "qmp on no socket" 2 'unix:PATH or tcp:' run --kernel "$kernel" --qmp stdio
refused "qmp at a path that cannot be" 1 'No such file' run --kernel "$kernel" --qmp unix:/nonexistent/socket
refused "unknown serial line" 2 'stdio, null, file:PATH' run --kernel "$kernel" --serial lines
refused "five serial ports" 2 'at most' run --kernel "$kernel" --serial none --serial none --serial none --serial none --serial none
refused "standard input on two ports" 2 'one port only' run --kernel "$kernel" --serial stdio --serial stdio

refused "console with a bad name" 2 'without /' run --kernel "$kernel" --console null,name=a/b
refused "console with an unknown word" 2 "unknown word 'nome'" run --kernel "$kernel" --console null,nome=x
refused "console and serial line on standard input" 2 'one port only' run --kernel "$kernel" --console stdio --serial stdio
refused "share of nothing" 2 'directory is wanted' run --kernel "$kernel" --share :tag
refused "share of what is not there" 1 'No such file' run --kernel "$kernel" --share /nonexistent
refused "share of a file" 1 'Not a directory' run --kernel "$kernel" --share /etc/passwd
refused "two shares of one tag" 2 'is taken' run --kernel "$kernel" --share /tmp --share /usr:ro
refused "vsock with a bad CID" 2 'from 3 to' run --kernel "$kernel" --vsock "$tmp/vsock,cid=2"
refused "vsock at a path that cannot be" 1 'No such file' run --kernel "$kernel" --vsock /nonexistent/vsock
refused "two vsocks" 2 'one already' run --kernel "$kernel" --vsock "$tmp/a" --vsock "$tmp/b"
refused "balloon without a size" 2 'size like' run --kernel "$kernel" --balloon much
