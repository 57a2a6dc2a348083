# GNU Mach without firmware, by Multiboot: to the end of its own start. There is no Hurd in Debian's amd64 archive.
debian_down
gzip -dc "$guests/mach/gnumach.gz" >"$tmp/gnumach"
guest_start --engine "$engine" --memory 64M --no-reboot --kernel "$tmp/gnumach" --append console=com0
guest_expect 'RTC time is 20[0-9-]+ [0-9:]+' 30
check "mach: GNU Mach finds memory and clock" $?
guest_expect 'No bootstrap code loaded with the kernel' 30
check "mach: asks for its first program" $?
guest_kill
