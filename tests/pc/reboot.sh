# Reboots in a row, by firmware each time.
debian_down
debian_disk
debian_start
for ((i = 1; i <= reboots; i++)); do
	debian_login_prompt $i || break
	guest_send root
	sleep 1
	guest_send reboot
done
debian_login_prompt $((reboots + 1))
check "reboot: $reboots times in a row" $?
debian_down
