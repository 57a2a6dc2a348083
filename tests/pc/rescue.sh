# GRUB's rescue images, from a CD-ROM and from a disk.
debian_down
for kind in cdrom disk; do
	image=/usr/lib/grub-rescue/grub-rescue-$([ $kind = cdrom ] && echo cdrom.iso || echo usb.img)
	cp "$image" "$tmp/rescue.img"
	guest_start --engine "$engine" --memory 256M --$kind "$tmp/rescue.img"
	guest_expect 'grub>|GRUB' 60
	check "rescue: GRUB's rescue image from a $kind" $?
	guest_kill
done
