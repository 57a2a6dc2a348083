# CD-ROM drives on every controller: what is read, the tray, discs that are mounted, a reset in the middle of reading.
debian_down
disc=/usr/lib/grub-rescue/grub-rescue-cdrom.iso
want=$(md5sum <"$disc" | cut -d ' ' -f 1)
debian_disk
discs=()
for kind in ide sata scsi; do
	cp "$disc" "$tmp/$kind.iso"
	discs+=(--cdrom "$tmp/$kind.iso,if=$kind,serial=cd-$kind")
done
debian_start_kernel --disk "$disk" "${discs[@]}"
debian_login_prompt && debian_ssh_ready
check "cdrom: Debian with three drives" $?
for n in 0 1 2; do
	# autoeject opens the tray when the drive is closed, autoclose closes it when it is opened
	in_debian 120 "bash -c '
		set -e
		echo \$(readlink -f /sys/block/sr$n | grep -oE \"ata[0-9]|virtio[0-9]\") \$(md5sum </dev/sr$n)
		mount -r /dev/sr$n /mnt; ls /mnt/boot/grub | grep -q i386-pc; umount /mnt
		echo 1 >/proc/sys/dev/cdrom/autoeject; echo 0 >/proc/sys/dev/cdrom/autoclose
		head -c 2048 /dev/sr$n >/dev/null
		! head -c 2048 /dev/sr$n 2>/dev/null | grep -q .
		echo 0 >/proc/sys/dev/cdrom/autoeject; echo 1 >/proc/sys/dev/cdrom/autoclose
		md5sum </dev/sr$n'"
	[ $? = 0 ] && [ "$(grep -c "$want" <<<"$reply")" = 2 ]
	status=$?
	check "cdrom: read, mounted, ejected, closed, read again: $(head -n 1 <<<"$reply" | cut -d ' ' -f 1)" $status "$reply"
done
in_debian 60 'nohup sh -c "sleep 1; for n in 0 1 2; do while dd if=/dev/sr\$n of=/dev/null bs=64k iflag=direct; do :; done & done; sleep 0.1; \
	echo b >/proc/sysrq-trigger" >/dev/null 2>&1 &'
debian_login_prompt 2 && debian_ssh_ready && in_debian 60 'cat /dev/sr0 /dev/sr1 /dev/sr2 | md5sum' &&
	[ "${reply%% *}" = "$(cat "$disc" "$disc" "$disc" | md5sum | cut -d ' ' -f 1)" ]
check "cdrom: after a reset in the middle" $? "$reply"
debian_down
