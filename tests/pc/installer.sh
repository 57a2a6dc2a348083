# Debian's installer to its first screen: on the serial line, and on VGA, as the network boots it.
debian_down
images=/usr/lib/debian-installer/images/12/amd64/text
guest_start --engine "$engine" --memory 1G --kernel $images/debian-installer/amd64/linux \
	--initrd $images/debian-installer/amd64/initrd.gz --append "console=ttyS0 priority=low TERM=linux" --net user
guest_expect 'Choose language|Debian installer main menu|Select a language' 300
check "installer: its first screen, on the serial line" $?
guest_kill

# SeaBIOS, iPXE, PXELINUX by TFTP, its menu in graphics, which takes the first entry: the installer's kernel asks the VGA
# BIOS for 800x600, the installer draws its letters with a font of its own, which it brings.
cp -r $images "$tmp/tftp"
sed -i 's/^timeout 0/timeout 20/' "$tmp/tftp/debian-installer/amd64/boot-screens/syslinux.cfg"
gzip -dc $images/debian-installer/amd64/initrd.gz | cpio -i --quiet --to-stdout 'lib/unifont.bgf' >"$tmp/font.bgf"
guest_start --engine "$engine" --memory 1G --boot n --net "user,tftp=$tmp/tftp,bootfile=pxelinux.0" --vnc "unix:$tmp/vnc"
begin=$SECONDS found=1
until [ $found = 0 ] || waited "$begin" 300; do
	sleep 3
	timeout 120 "$ringside" screenshot "unix:$tmp/vnc" "$tmp/installer.png" 2>"$tmp/err" &&
		tests/pc/picture_text.py "$tmp/installer.png" "$tmp/font.bgf" >"$log" 2>>"$tmp/err" &&
		grep -q 'Select a language' "$log" && grep -qE '^ *English +- +English' "$log"
	found=$?
done
check "installer: its first screen, read from a picture of VGA, from the network" $found
guest_kill
rm -r "$tmp/tftp"
