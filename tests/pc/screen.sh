# Screens: memtest86+ in the terminal with its keys, the same and SeaBIOS as pictures by VNC.
# screen_size FILE: width and height of a PNG.
screen_size() { od -An -tu1 -j16 -N8 "$1" | awk '{print $3 * 256 + $4 "x" $7 * 256 + $8}'; }

# screen_picture NAME SIZE BYTES: a picture comes that has this size, and at least so many bytes: there is something in it.
screen_picture() {
	local size='' bytes=0 begin=$SECONDS
	until waited "$begin" 60; do
		rm -f "$tmp/screen.png"
		timeout 120 "$ringside" screenshot "unix:$tmp/vnc" "$tmp/screen.png" 2>"$tmp/screenshot.err" &&
			size=$(screen_size "$tmp/screen.png") bytes=$(stat -c %s "$tmp/screen.png")
		[ "$size" = "$2" ] && [ "$bytes" -ge "$3" ] && break
		sleep 1
	done
	check "$1" "$([ "$size" = "$2" ] && [ "$bytes" -ge "$3" ]; echo $?)" "$size, $bytes bytes; $(cat "$tmp/screenshot.err")"
}

debian_down
guest_start --engine "$engine" --memory 16M --screen text --kernel /boot/memtest86+x64.bin
guest_expect 'Memtest86' 60
check "screen: memtest86+ in the terminal, in text mode" $?
printf '\033OP' >&7
guest_expect 'Settings' 60
check "screen: F1 is a key of the guest's keyboard" $?
guest_kill

guest_start --engine "$engine" --memory 16M --vnc "unix:$tmp/vnc" --kernel /boot/memtest86+x64.bin
screen_picture "screen: memtest86+ on a linear frame buffer, as a picture" 1024x768 4000
guest_kill

guest_start --engine "$engine" --bios /usr/share/seabios/bios-256k.bin --vnc "unix:$tmp/vnc"
screen_picture "screen: SeaBIOS through its VGA BIOS, as a picture" 720x400 1000
guest_kill
