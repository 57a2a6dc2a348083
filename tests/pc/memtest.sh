# memtest86+ in little memory: a whole pass would be minutes; what it has tested must be right.
debian_down
guest_start --engine "$engine" --memory 16M --kernel /boot/memtest86+x64.bin --append "console=ttyS0,115200"
guest_expect 'Test *#?[1-9]|Pass *[0-9]+%|#[1-9]' 120
check "memtest: tests run" $?
sleep 20
check "memtest: no error" "$(tr -d '\0' <"$log" | grep -aqE 'Errors: *[1-9]|FAIL|unexpected'; [ $? = 1 ]; echo $?)"
guest_kill
