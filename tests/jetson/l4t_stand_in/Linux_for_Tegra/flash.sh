#!/bin/bash
# A stand-in for NVIDIA's flash.sh of L4T 32.7, for tests: options and checks as there, no module. See ../README.md.

usage() {
	echo "
Usage: sudo ./flash.sh [options] <target_board> <rootdev>
  Where,
	target board: Valid target board name.
	rootdev: Proper root device."
	exit "$1"
}

if [ $# -lt 2 ]; then
	usage 1
fi
nargs=$#
target_rootdev=${!nargs}
nargs=$((nargs - 1))
ext_target_board=${!nargs}
# In the folder that it is called from, as there: a call from another folder finds none.
if [ ! -r "${ext_target_board}.conf" ]; then
	echo "Error: Invalid target board - ${ext_target_board}."
	usage 1
fi
LDK_DIR=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=stand_in.func
source "${LDK_DIR}/stand_in.func"
# shellcheck source=/dev/null
source "./${ext_target_board}.conf"
BL_DIR="${LDK_DIR}/bootloader"
line="###############################################################################"

echo "${line}"
echo "# L4T BSP Information:"
if [ -f "${LDK_DIR}/nv_tegra/bsp_version" ]; then
	# shellcheck source=/dev/null
	source "${LDK_DIR}/nv_tegra/bsp_version"
	echo "# R${BSP_BRANCH} , REVISION: ${BSP_MAJOR}.${BSP_MINOR}"
elif [ -f "${LDK_DIR}/rootfs/etc/nv_tegra_release" ]; then
	head -n1 "${LDK_DIR}/rootfs/etc/nv_tegra_release"
else
	echo "# Unknown Release"
fi
echo "${line}"

case "${target_rootdev}" in
internal | mmcblk0p*) ;;
external | mmcblk1p* | sd* | nvme*) ;;
*)
	echo "Error: Invalid target rootdev(${target_rootdev})."
	usage 1
	;;
esac

target_partname=""
read_part_name=""
reuse_systemimg=""
usb_instance=""
no_flash=0
while getopts "b:c:d:e:f:h:i:k:m:n:o:p:rs:t:u:v:w:x:z:B:C:F:G:I:K:L:M:N:P:R:S:Z:-:" OPTION; do
	case ${OPTION} in
	h) usage 0 ;;
	c) CFGFILE=${OPTARG} ;;
	k) target_partname=${OPTARG} ;;
	r) reuse_systemimg="true" ;;
	G) read_part_name=${OPTARG} ;;
	-)
		case ${OPTARG} in
		no-flash) no_flash=1 ;;
		usb-instance)
			usb_instance="${!OPTIND}"
			OPTIND=$((OPTIND + 1))
			;;
		esac
		;;
	[b-pst-zB-Z]) ;;
	*) usage 1 ;;
	esac
done
if [ "${USER}" != "root" ]; then
	fail "flash.sh requires root privilege" 21
fi

# The unique id of the chip, which says what chip it is; empty where no module answers.
step "Reading ECID"
module="$(find_module "${usb_instance}" | head -n 1)"
if [ -z "${module}" ]; then
	echo "Error: probing the target board failed." >&2
	echo "       Make sure the target board is connected through " >&2
	echo "       USB port and is in recovery mode." >&2
	exit 14
fi
instance="$(cat "${module}/busnum")-$(cat "${module}/devpath")"
hwchipid="0x$(cut -c 3-4 "${module}/idProduct")"

if [ -n "${read_part_name}" ]; then
	if [ -z "${target_partname}" ]; then
		fail "Error: missing -k option to specify partition name" 28
	fi
	if ! read_part_name="$(readlink -f "${read_part_name}")"; then
		fail "Invalid path/filename ${read_part_name}" 13
	fi
fi

echo "# Target Board Information:"
echo "# Name: ${ext_target_board}, Board Family: ${BOARD_FAMILY}, SoC: ${hwchipid}, "
echo "# OpMode: production, Boot Authentication: NS, "
echo "# Disk encryption: disabled ,"
echo "${line}"
if [ "${CHIPID}" != "${hwchipid}" ]; then
	echo "Error: The Actual SoC ID(${hwchipid}) mismatches intended ${ext_target_board} SoC ID(${CHIPID})." >&2
	exit 14
fi

step "Reading board information"
echo "[   0.4568 ] Boot Rom communication"
echo "[   0.4590 ] BR_CID: $(cat "${module}/br_cid" 2>/dev/null || echo 0x88018001644086c91800000000efd850)"
read -r board_id board_version board_sku board_revision <<<"${L4T_STAND_IN_EEPROM:-${EEPROM}}"
echo "Board ID(${board_id}) version(${board_version}) sku(${board_sku}) revision(${board_revision})" >&2

[ -d "${LDK_DIR}/rootfs" ] || fail "Error: missing rootfs_dir (${LDK_DIR}/rootfs)."
[ -f "${LDK_DIR}/kernel/Image" ] || fail "Error: missing kernel_image (${LDK_DIR}/kernel/Image)."
cfgfile="${CFGFILE:-${BL_DIR}/${BOARD_FAMILY}/cfg/${EMMC_CFG}}"
[ -f "${cfgfile}" ] || fail "Error: missing cfgfile (${cfgfile})."
cd "${BL_DIR}" || exit 1

step "Making Boot image"
cp "${LDK_DIR}/kernel/Image" boot.img
echo "Making Boot image... done."
cp nv_boot_control.conf "${LDK_DIR}/rootfs/etc" || fail "Copying nv_boot_control.conf failed."
spec="TNSPEC ${board_id}-${board_version}-${board_sku}-${board_revision}-1-0-${ext_target_board}-${target_rootdev}"
echo "${spec}" >>"${LDK_DIR}/rootfs/etc/nv_boot_control.conf"

step "Making system.img"
if [ -n "${read_part_name}" ]; then
	echo "Skip generating system.img"
elif [ -n "${reuse_systemimg}" ]; then
	echo "Reusing existing system.img... "
	[ -e system.img ] || fail "file does not exist." 15
	echo "done."
else
	echo "Making system.img... "
	# A tar archive with fixed dates in place of NVIDIA's ext4 on a loop device.
	no_space system.img "Failed. Your APPSIZE might be too small."
	[ -f "${LDK_DIR}/rootfs/boot/extlinux/extlinux.conf" ] ||
		fail "${LDK_DIR}/rootfs/boot/extlinux/extlinux.conf is not found, exiting..." 11
	tar --sort=name --mtime=@0 --exclude=nv_boot_control.conf -C "${LDK_DIR}/rootfs" -cf system.img.raw . ||
		fail "Failed. Your APPSIZE might be too small."
	mv -f system.img.raw system.img
	echo "system.img built successfully. "
fi

app="$(app_partition "${instance}")" || exit 1
if [ -n "${target_partname}" ] && [ "${target_partname}" != APP ]; then
	fail "*** Update [${target_partname}] is not supported. ***" 45
fi
# From here on a module that is gone fails as NVIDIA's tegraflash does.
still_there() {
	if [ -z "$(find_module "${usb_instance}" | head -n 1)" ]; then
		echo "[   5.0900 ] Error: Return value 8" >&2
		fail "$1"
	fi
}

if [ -n "${read_part_name}" ]; then
	echo "*** Reading [APP] and storing to ${read_part_name} ***"
	step "Reading APP"
	still_there "Failed to flash/read ${BOARD_FAMILY}."
	no_space "${read_part_name}" "Failed to flash/read ${BOARD_FAMILY}."
	cp "${app}" "${read_part_name}" || fail "Failed to flash/read ${BOARD_FAMILY}."
	echo "*** The [APP] has been read successfully. ***"
	if [ -x mksparse ]; then
		mv -f "${read_part_name}" "${read_part_name}.raw"
		./mksparse --fillpattern=0 "${read_part_name}.raw" "${read_part_name}"
	fi
	exit 0
fi
if [ ${no_flash} -ne 0 ]; then
	echo "*** no-flash flag enabled. Exiting now... *** "
	exit 0
fi

echo "*** Flashing target device started. ***"
step "Writing the bootloader"
still_there "Failed flashing ${BOARD_FAMILY}."
echo "[  10.3296 ] Writing partition mb2 with nvtboot.bin"
step "Writing APP"
still_there "Failed flashing ${BOARD_FAMILY}."
echo "[  30.1020 ] Writing partition APP with system.img"
for percent in 005 050 100; do
	echo "[................................................] ${percent}%"
done
cp system.img "${app}.part" || fail "Failed flashing ${BOARD_FAMILY}."
mv "${app}.part" "${app}"
step "Rebooting"
leave_recovery
echo "*** The target ${BOARD_FAMILY} has been flashed successfully. ***"
echo "Reset the board to boot from internal eMMC."
