# The power button ends it cleanly: the disk's file system needs no repair.
if debian_up; then
	in_debian 60 'for i in $(seq 200); do echo $i >/root/file$i; done; rm -rf /root/file1*'
	kill -s PWR "$guest_pid"
	guest_wait 90
	check "poweroff: the power button ends Debian cleanly" "$status"
	up=
	debug=$(dd if="$disk" bs=1M skip=1 conv=sparse of="$tmp/part.img" 2>&1 && e2fsck -fn "$tmp/part.img" 2>&1)
	check "poweroff: its file system is clean" "$?" "$(tail -n 3 <<<"$debug")"
	rm -f "$tmp/part.img"
else
	check "poweroff: Debian is up" 1
fi
