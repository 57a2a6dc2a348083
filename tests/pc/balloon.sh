# Memory that the guest gives back while it runs.
debian_down
debian_disk
debian_start_kernel --balloon 1G --qmp "unix:$tmp/qmp"
debian_login_prompt && debian_ssh_ready
check "balloon: Debian with a balloon" $?
# resident: how much of the guest's RAM is in memory, in KiB, by the statistics that it prints when asked.
resident() {
	local begin=$SECONDS line='^ *guest RAM in use *\([0-9]*\) KiB.*' before
	before=$(grep -c "$line" "$tmp/err")
	kill -USR1 "$guest_pid"
	until [ "$(grep -c "$line" "$tmp/err")" -gt "$before" ]; do
		! waited "$begin" 60 || return 1
		sleep 0.1
	done
	sed -n "s/$line/\1/p" "$tmp/err" | tail -n 1
}
# actual BYTES: waits until the balloon leaves the guest so much.
actual() {
	local begin=$SECONDS
	until reply=$(python3 tests/qmp_client.py "$tmp/qmp" query-balloon 2>&1) && grep -q "\"actual\": $1\b" <<<"$reply"; do
		! waited "$begin" 60 || return 1
		sleep 0.5
	done
}
in_debian 60 'modprobe virtio_balloon; head -c 400M /dev/zero >/dev/shm/fill'
full=$(resident)
in_debian 60 'rm /dev/shm/fill'
begin=$SECONDS
until before=$(resident) && [ $((full - before)) -ge $((300 << 10)) ] || waited "$begin" 60; do
	sleep 0.5
done
check "balloon: free pages are reported, and go back to the host" "$([ $((full - before)) -ge $((300 << 10)) ]; echo $?)" \
	"$full KiB with the file, $before without"
reply=$(python3 tests/qmp_client.py "$tmp/qmp" balloon '{"value": 419430400}' 2>&1)
check "balloon: a target by QMP" $? "$reply"
actual 419430400
check "balloon: the guest gets there" $? "$reply"
after=$(resident)
check "balloon: the host has its memory back" "$([ "$after" -lt $((450 << 10)) ]; echo $?)" "$before KiB before, $after after"
echo "# resident: $before KiB before, $after KiB after"
python3 tests/qmp_client.py "$tmp/qmp" balloon '{"value": 1073741824}' >/dev/null 2>&1
actual 1073741824
in_debian 60 'head -c 400M /dev/zero >/dev/shm/fill && rm /dev/shm/fill && echo filled'
check "balloon: and gets all of it again" "$(grep -qx filled <<<"$reply"; echo $?)" "$reply"
debian_down
