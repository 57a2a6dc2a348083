# Sourced: small disks with boot loaders.

# boot_disk DIR IMAGE: a disk with what is in DIR on one ext2 partition, and GRUB, which reads /grub.cfg there.
boot_disk() {
	local start=2048 size
	size=$(($(du -sk "$1" | cut -f 1) + 8192))
	rm -f "$2"
	truncate -s $((start / 2 + size))k "$2"
	printf 'label: dos\nstart=%d, type=83, bootable\n' $start | sfdisk -q "$2"
	mke2fs -q -t ext2 -F -E offset=$((start * 512)),root_owner=0:0 -d "$1" "$2" ${size}k
	grub-mkimage -O i386-pc -p '(hd0,msdos1)/' -o "$2.core" \
		biosdisk part_msdos ext2 normal configfile serial terminal multiboot multiboot2 relocator mmap gzio
	dd if=/usr/lib/grub/i386-pc/boot.img of="$2" bs=440 count=1 conv=notrunc status=none
	dd if="$2.core" of="$2" bs=512 seek=1 conv=notrunc status=none
	rm "$2.core"
}
