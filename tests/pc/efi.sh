# OVMF, GRUB from a GPT disk's EFI system partition, Linux by its EFI stub, to a shell.
debian_down
start=2048 size=$((64 << 10)) # sectors, KiB
mkdir "$tmp/efi"
cat >"$tmp/efi/grub.cfg" <<'EOF'
serial --unit=0
terminal_output serial
terminal_input serial
set timeout=1
menuentry "Linux on the disk" {
	linux /vmlinuz console=ttyS0 loglevel=3
	initrd /initrd.gz
}
EOF
grub-mkimage -O x86_64-efi -p /EFI/BOOT -o "$tmp/efi/bootx64.efi" \
	part_gpt fat normal linux configfile serial terminal
truncate -s $((start / 2 + size + 1024))k "$tmp/efi.img"
printf 'label: gpt\nstart=%d, size=%d, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n' $start $((size * 2)) | sfdisk -q "$tmp/efi.img"
truncate -s ${size}k "$tmp/efi/partition"
mformat -i "$tmp/efi/partition" -F ::
mmd -i "$tmp/efi/partition" ::/EFI ::/EFI/BOOT
mcopy -i "$tmp/efi/partition" "$tmp/efi/bootx64.efi" ::/EFI/BOOT/BOOTX64.EFI
mcopy -i "$tmp/efi/partition" "$tmp/efi/grub.cfg" ::/EFI/BOOT
mcopy -i "$tmp/efi/partition" "$guests/cloud/vmlinuz" "$guests/cloud/initrd.gz" ::/
dd if="$tmp/efi/partition" of="$tmp/efi.img" bs=1M seek=1 conv=notrunc status=none
guest_start --engine "$engine" --uefi --machine q35 --cpus 2 --disk "$tmp/efi.img"
guest_expect 'Linux on the disk' 120
check "efi: OVMF starts GRUB from the disk" $?
guest_shell 120
check "efi: Linux to a shell" $?
guest_run 'ls /sys/firmware/efi | grep -cx runtime; nproc; dmesg | grep -c "efi: EFI v2"' 20
check "efi: it knows its firmware's run-time services, both processors" "$([ "${reply//$'\n'/ }" = '1 2 1' ]; echo $?)" "$reply"
guest_send poweroff
guest_wait 30
check "efi: powers off" "$([ "$status" = 0 ]; echo $?)" "status $status"
rm -r "$tmp/efi"*
