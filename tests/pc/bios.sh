# SeaBIOS, GRUB from the disk, Debian: nothing is handed over but a disk.
debian_down
debian_disk
start=$(date +%s%N)
debian_start
guest_expect 'SeaBIOS' 30
check "bios: SeaBIOS shows on the serial line" $?
guest_expect 'Booting .Debian' 60
check "bios: GRUB from the disk" $?
debian_login_prompt
check "bios: Debian to its login prompt" $?
echo "# firmware to login prompt: $((($(date +%s%N) - start) / 1000000)) ms"
guest_send root
guest_expect 'root@debian' 30
guest_send "exec env PS1= sh" # which says nothing but its commands' output
sleep 1
guest_run 'dmesg | grep -c "SMBIOS\|DMI:"; ls /sys/firmware/acpi/tables | wc -l' 20
check "bios: the kernel found SMBIOS and ACPI tables" "$([ "$(echo "$reply" | head -n 1)" -ge 1 ] && [ "$(echo "$reply" | tail -n 1)" -ge 4 ]; echo $?)" "$reply"
debian_down
