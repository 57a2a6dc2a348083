# Debian moved between engines while it works on its disk and its network: transfers are under way at every move.
debian_down
debian_disk
debian_start_kernel --cpus 1 --qmp "tcp:127.0.0.1:$((port + 1))"
debian_login_prompt && debian_ssh_ready
check "move: Debian" $?
tests/boot/move $((port + 1)) bt:1 interp:0.1 check:0.05 >"$tmp/moves" 2>&1 &
mover=$!
in_debian 180 'cd /var/tmp; for i in 1 2 3; do seq $i 500000 >numbers; sync; echo 3 >/proc/sys/vm/drop_caches; sha256sum <numbers; done'
[ "$reply" = "$(for i in 1 2 3; do seq $i 500000 | sha256sum; done)" ]
check "move: written to the disk and read again" $? "$reply"
head -c 8M /dev/urandom >"$tmp/random"
reply=$(timeout 180 ssh "${ssh_options[@]}" root@127.0.0.1 'tee /var/tmp/random | sha256sum; sha256sum </var/tmp/random' \
	<"$tmp/random" 2>&1)
[ "$reply" = "$(sha256sum <"$tmp/random"; sha256sum <"$tmp/random")" ]
check "move: over the network card" $? "$reply"
in_debian 60 "dmesg | grep -E 'BUG:|Oops|Call Trace|I/O error|self-detected stall|soft lockup|virtio.*(error|broken)'; poweroff"
[ -z "$reply" ]
check "move: a quiet kernel log" $? "$reply"
guest_wait 180
check "move: power off" "$status"
wait $mover
reply=$(cat "$tmp/moves")
[ "${reply:-0}" -ge 10 ] 2>/dev/null
check "move: often" $? "$reply"
echo "# $reply moves"
