# U-Boot as firmware, by its own drivers: a kernel from a virtio disk, by commands on the serial line.
debian_down
mkdir "$tmp/uboot"
cp "$guests/cloud/vmlinuz" "$guests/cloud/initrd.gz" "$tmp/uboot"
boot_disk "$tmp/uboot" "$tmp/uboot.img"
guest_start --engine "$engine" --cpus 2 --bios "$guests/u-boot/u-boot.rom" --disk "$tmp/uboot.img"
guest_expect 'Hit any key' 30
check "uboot: starts" $?
guest_send ''
guest_expect '^=> ' 10
guest_send 'virtio scan; load virtio 0:1 2000000 /vmlinuz; load virtio 0:1 8000000 /initrd.gz'
guest_expect '[0-9]+ bytes read' 20 2
check "uboot: reads a virtio disk" $?
guest_send 'setenv bootargs console=ttyS0 loglevel=3; zboot 2000000 0 8000000 ${filesize}'
guest_shell 60
check "uboot: Linux to a shell" $?
guest_run 'nproc; dmesg | grep -c "ACPI: RSDP"' 20
check "uboot: with both processors and ACPI" "$([ "$reply" = $'2\n1' ]; echo $?)" "$reply"
guest_send poweroff
guest_wait 30
check "uboot: powers off" "$([ "$status" = 0 ]; echo $?)" "status $status"
rm -r "$tmp/uboot"*
