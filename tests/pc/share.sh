# A directory of the host, written from both sides.
debian_down
debian_disk
mkdir "$tmp/share"
echo from-the-host >"$tmp/share/host"
debian_start_kernel --share "$tmp/share:shared"
debian_login_prompt && debian_ssh_ready
check "share: Debian with a shared directory" $?
in_debian 60 'mkdir /mnt/s && mount -t 9p -o trans=virtio,version=9p2000.L shared /mnt/s && cat /mnt/s/host && \
	echo from-the-guest >/mnt/s/guest && mkdir /mnt/s/d && mv /mnt/s/guest /mnt/s/d/moved && ln -s host /mnt/s/link && \
	cat /mnt/s/link && head -c 20M /dev/urandom >/mnt/s/big && sha256sum </mnt/s/big'
check "share: written and read in the guest" $? "$reply"
check "share: the guest reads the host's file, also through a link" \
	"$([ "$(grep -cx from-the-host <<<"$reply")" = 2 ]; echo $?)" "$reply"
check "share: the host reads the guest's file" "$(grep -qx from-the-guest "$tmp/share/d/moved" 2>/dev/null; echo $?)"
check "share: 20 MB are the same on both sides" \
	"$([ "$(tail -n 1 <<<"$reply")" = "$(sha256sum <"$tmp/share/big" 2>/dev/null)" ]; echo $?)"
in_debian 20 'ls /mnt/s/..; ln -s /etc/hostname /mnt/s/abs; cat /mnt/s/abs; mkdir /mnt/s/x && cd /mnt/s/x && rmdir ../x; ls'
echo changed >"$tmp/share/host"
in_debian 20 'sync; umount /mnt/s; mount -t 9p -o trans=virtio,version=9p2000.L shared /mnt/s && cat /mnt/s/host'
check "share: a change of the host's is seen" "$([ "$reply" = changed ]; echo $?)" "$reply"
debian_down
