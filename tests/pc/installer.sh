# Debian's installer to its first screen, on the serial line.
debian_down
images=/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64
guest_start --engine "$engine" --memory 1G --kernel $images/linux --initrd $images/initrd.gz \
	--append "console=ttyS0 priority=low TERM=linux" --net user
guest_expect 'Choose language|Debian installer main menu|Select a language' 120
check "installer: its first screen, on the serial line" $?
guest_kill
