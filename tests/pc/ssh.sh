# A session from the host through a forwarded port.
debian_up
in_debian 20 'uname -a; systemctl is-system-running; cat /etc/debian_version'
check "ssh: a session through a forwarded port" "$(grep -q '^Linux debian' <<<"$reply"; echo $?)" "$reply"
in_debian 60 'systemctl --wait is-system-running; systemctl --failed --no-legend'
check "ssh: systemd has no failed unit" "$(grep -qx running <<<"$reply"; echo $?)" "$reply"
in_debian 20 'head -c 8000000 /dev/zero | sha256sum'
check "ssh: output comes through" "$(grep -q "^$(head -c 8000000 /dev/zero | sha256sum | cut -d' ' -f1)" <<<"$reply"; echo $?)" "$reply"
sum=$(head -c 20000000 "$debian/vmlinuz" | sha256sum | cut -d' ' -f1)
reply=$(timeout 60 ssh "${ssh_options[@]}" root@127.0.0.1 sha256sum <"$debian/vmlinuz" 2>&1)
check "ssh: 8 MB go in unharmed" "$([ "${reply%% *}" = "$sum" ]; echo $?)" "$reply"
in_debian 20 'cat /sys/bus/i2c/devices/i2c-0/name; dmesg | grep piix4_smbus'
check "ssh: the SMBus has its driver, without complaint" "$([[ $reply = *'PIIX4 adapter at 0700'* && $(grep -c piix4_smbus <<<"$reply") = 1 ]]; echo $?)" "$reply"
