# memtest86+ in little memory: all of its tests but the last, which fades for minutes.
debian_down
guest_start --engine "$engine" --memory 16M --kernel /boot/memtest86+x64.bin --append "console=ttyS0,115200"
guest_expect '#10 \[Bit fade' 200
check "memtest: nine tests run" $?
sleep 3
found=$(grep -aoE 'Errors: [0-9]+' "$log" | sort | uniq -c | tr -s ' \n' ' ')
check "memtest: no error" "$([[ $found =~ ^\ [0-9]+\ Errors:\ 0\ $ ]]; echo $?)" "$found"
guest_kill
