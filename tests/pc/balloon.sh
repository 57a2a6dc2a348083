# Memory that the guest gives back while it runs.
debian_down
debian_disk
debian_start_kernel --balloon 1G --qmp "unix:$tmp/qmp"
debian_login_prompt && debian_ssh_ready
check "balloon: Debian with a balloon" $?
in_debian 60 'modprobe virtio_balloon; head -c 600M /dev/zero >/dev/shm/fill; rm /dev/shm/fill; free -m | sed -n 2p'
resident() { awk '/^RssShmem/ { print $2 }' "/proc/$guest_pid/status"; }
before=$(resident)
reply=$(python3 tests/pc/qmp.py "$tmp/qmp" balloon '{"value": 419430400}' 2>&1)
check "balloon: a target by QMP" $? "$reply"
for _ in $(seq 60); do
	reply=$(python3 tests/pc/qmp.py "$tmp/qmp" query-balloon 2>&1)
	[ "$reply" = '{"actual": 419430400}' ] && break
	sleep 1
done
check "balloon: the guest gets there" "$([ "$reply" = '{"actual": 419430400}' ]; echo $?)" "$reply"
after=$(resident)
check "balloon: the host has its memory back" "$([ "$after" -lt $((450 << 10)) ]; echo $?)" "$before KiB before, $after after"
echo "# resident: $before KiB before, $after KiB after"
in_debian 20 'free -k | awk "/^Mem/ { print \$2 }"'
check "balloon: the guest has that much" "$([ "$reply" -lt 420000 ] && [ "$reply" -gt 250000 ]; echo $?)" "$reply KiB"
python3 tests/pc/qmp.py "$tmp/qmp" balloon '{"value": 1073741824}' >/dev/null 2>&1
in_debian 60 'sleep 5; head -c 600M /dev/zero >/dev/shm/fill && rm /dev/shm/fill && echo filled'
check "balloon: and gets all of it again" "$(grep -qx filled <<<"$reply"; echo $?)" "$reply"
debian_down
