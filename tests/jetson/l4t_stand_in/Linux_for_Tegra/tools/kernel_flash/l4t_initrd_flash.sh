#!/bin/bash
# A stand-in for NVIDIA's l4t_initrd_flash.sh of L4T 36, for tests: options and checks as there. See ../../../README.md.
set -eo pipefail

L4T_DIR="$(cd "$(dirname "${0}")/../.." && pwd)"
# shellcheck source-path=SCRIPTDIR source=../../stand_in.func
source "${L4T_DIR}/stand_in.func"
usb_instance=""
external_device=""
config_file=""
reuse=""
flash_only=0
no_flash=0

usage() {
	echo "Usage: ./l4t_initrd_flash.sh <options> [ --external-device <ext> -c <cfg> -S <SIZE> ] <board-name> <rootdev>"
	exit 1
}

while [ $# -gt 0 ]; do
	case "$1" in
	--external-device)
		external_device="$2"
		shift
		;;
	-c)
		config_file="$2"
		shift
		;;
	-p | -S | -u | -v | -k | --network | --massflash) shift ;;
	--usb-instance)
		usb_instance="$2"
		shift
		;;
	-r) reuse="true" ;;
	--showlogs | --erase-all | --external-only | --append | --sparse) ;;
	--flash-only) flash_only=1 ;;
	--no-flash) no_flash=1 ;;
	-*) usage ;;
	*) break ;;
	esac
	shift
done
[ $# -eq 2 ] || usage
target="$1"
if [ "${USER}" != "root" ]; then
	fail "l4t_initrd_flash.sh requires root privilege"
fi
if [ -n "${external_device}" ] && [ -z "${config_file}" ]; then
	fail "-c option is required for external device"
fi
[ -z "${config_file}" ] || [ -f "${config_file}" ] || fail "${config_file} is not found"
[ -r "${L4T_DIR}/${target}.conf" ] || fail "Error: Invalid target board - ${target}."
# shellcheck source=/dev/null
source "${L4T_DIR}/${target}.conf"

step "Finding devices"
mapfile -t modules < <(find_module "${usb_instance}")
if [ "${flash_only}" = 0 ]; then
	step "Making the flash package"
	read -r board_id board_version board_sku board_revision <<<"${L4T_STAND_IN_EEPROM:-${EEPROM}}"
	echo "[   0.1608 ] BR_CID: 0x80012344705DF1975C000000110300C0"
	echo "Board ID(${board_id}) version(${board_version}) sku(${board_sku}) revision(${board_revision})"
	if [ -n "${reuse}" ]; then
		[ -e "${L4T_DIR}/bootloader/system.img" ] || fail "file does not exist." 15
	else
		no_space system.img "Failed. Your APPSIZE might be too small."
		tar --sort=name --mtime=@0 -C "${L4T_DIR}/rootfs" -cf "${L4T_DIR}/bootloader/system.img" .
	fi
	echo "Finish generating flash package."
fi
if [ "${no_flash}" = 1 ]; then
	echo "Put device in recovery mode, run with option --flash-only to flash device."
	exit 0
fi
if [ "${#modules[@]}" -eq 0 ]; then
	echo "No devices to flash"
	exit 1
fi
if [ "${#modules[@]}" -gt 1 ]; then
	echo "Error, too many devices in RCM mode"
	echo "For signing and flashing, only one device is supported"
	exit 1
fi
instance="$(cat "${modules[0]}/busnum")-$(cat "${modules[0]}/devpath")"
app="$(app_partition "${instance}")"
step "Booting the flashing kernel"
[ -d "${modules[0]}" ] || fail "Error: Return value 8"
echo "Waiting for target to boot-up..."
step "Writing the partitions"
cp "${L4T_DIR}/bootloader/system.img" "${app}.part"
mv "${app}.part" "${app}"
usb_instance="${instance}" leave_recovery
mkdir -p "${L4T_DIR}/initrdlog"
echo "Flash is successful"
