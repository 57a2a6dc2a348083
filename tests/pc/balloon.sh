# Memory that the guest gives back while it runs.
debian_down
debian_disk
debian_start_kernel --balloon 1G --qmp "unix:$tmp/qmp"
debian_login_prompt && debian_ssh_ready
check "balloon: Debian with a balloon" $?
# of the guest's RAM, KiB
resident() {
	kill -USR1 "$guest_pid"
	sleep 2
	sed -n 's/^ *guest RAM in use *\([0-9]*\) KiB.*/\1/p' "$tmp/err" | tail -n 1
}
in_debian 60 'modprobe virtio_balloon; head -c 400M /dev/zero >/dev/shm/fill'
full=$(resident)
in_debian 60 'rm /dev/shm/fill'
for _ in $(seq 30); do
	before=$(resident)
	[ $((full - before)) -lt $((300 << 10)) ] || break
done
check "balloon: free pages are reported, and go back to the host" "$([ $((full - before)) -ge $((300 << 10)) ]; echo $?)" \
	"$full KiB with the file, $before without"
reply=$(python3 tests/qmp_client.py "$tmp/qmp" balloon '{"value": 419430400}' 2>&1)
check "balloon: a target by QMP" $? "$reply"
for _ in $(seq 60); do
	reply=$(python3 tests/qmp_client.py "$tmp/qmp" query-balloon 2>&1)
	grep -q '"actual": 419430400' <<<"$reply" && break
	sleep 1
done
check "balloon: the guest gets there" "$(grep -q '"actual": 419430400' <<<"$reply"; echo $?)" "$reply"
after=$(resident)
check "balloon: the host has its memory back" "$([ "$after" -lt $((450 << 10)) ]; echo $?)" "$before KiB before, $after after"
echo "# resident: $before KiB before, $after KiB after"
python3 tests/qmp_client.py "$tmp/qmp" balloon '{"value": 1073741824}' >/dev/null 2>&1
in_debian 60 'sleep 5; head -c 400M /dev/zero >/dev/shm/fill && rm /dev/shm/fill && echo filled'
check "balloon: and gets all of it again" "$(grep -qx filled <<<"$reply"; echo $?)" "$reply"
debian_down
