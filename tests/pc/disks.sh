# fio with verification on every kind of disk, raw and qcow2, all in one machine; then the images are looked at.
debian_down
kinds=${DISK_KINDS:-virtio ide sata scsi} formats=${DISK_FORMATS:-raw qcow2}
debian_disk
disks=()
for kind in $kinds; do
	for format in $formats; do
		qemu-img create -q -f $format "$tmp/$kind.$format" 96M
		disks+=(--disk "$tmp/$kind.$format,format=$format,if=$kind,serial=$kind-$format")
	done
done
debian_start_kernel --disk "$disk" "${disks[@]}"
debian_login_prompt && debian_ssh_ready
check "disks: Debian with all of them" $?
in_debian 20 'lsblk -dnbo NAME,SERIAL,SIZE'
echo "# $(tr '\n' ';' <<<"$reply")"
table=$reply
for kind in $kinds; do
	for format in $formats; do
		name=$(awk -v s=$kind-$format '$2 == s && $3 == 96 * 1048576 { print $1 }' <<<"$table")
		[ -n "$name" ] && in_debian 180 "bash -c 'set -e; fio --name=v --filename=/dev/$name --direct=1 --ioengine=libaio --iodepth=8 --rw=randrw \
			--bsrange=4k-64k --bs_unaligned=0 --size=64M --verify=crc32c --verify_fatal=1 --do_verify=1 --fsync=64 --minimal >/dev/null; \
			blkdiscard -z -o 80M -l 8M /dev/$name; head -c 8M /dev/zero | cmp - <(tail -c +83886081 /dev/$name | head -c 8M)'"
		check "disks: fio verifies on $kind, $format" $? "$(tail -n 3 <<<"$reply")"
	done
done
kill -s PWR "$guest_pid"
guest_wait 90
check "disks: power-off" "$status"
for kind in $kinds; do
	[ -e "$tmp/$kind.qcow2" ] || continue
	reply=$(qemu-img check "$tmp/$kind.qcow2" 2>&1)
	check "disks: qemu-img check, $kind" $? "$reply"
done
