#!/bin/bash
# A stand-in for NVIDIA's apply_binaries.sh, for tests: options and checks as there. See ../README.md.
set -e

show_usage() {
	echo "Use: $1 [--bsp|-b PATH] [--root|-r PATH] [--target-overlay] [--help|-h]"
}

if [ "x$(whoami)" != "xroot" ]; then
	echo "This script requires root privilege"
	exit 1
fi
SCRIPT_NAME="$(basename "$0")"
if ! TGETOPT=$(getopt -n "${SCRIPT_NAME}" --longoptions help,bsp:,debug,target-overlay,root: -o b:dhr:t -- "$@"); then
	echo "Terminating... wrong switch"
	show_usage "${SCRIPT_NAME}"
	exit 1
fi
eval set -- "${TGETOPT}"
while [ $# -gt 0 ]; do
	case "$1" in
	-r | --root)
		LDK_ROOTFS_DIR="$2"
		shift
		;;
	-h | --help)
		show_usage "${SCRIPT_NAME}"
		exit 1
		;;
	-d | --debug | -t | --target-overlay) ;;
	-b | --bsp) shift ;;
	--)
		shift
		break
		;;
	esac
	shift
done
if [ $# -gt 0 ]; then
	show_usage "${SCRIPT_NAME}"
	exit 1
fi

LDK_DIR=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=stand_in.func
source "${LDK_DIR}/stand_in.func"
LDK_ROOTFS_DIR="${LDK_ROOTFS_DIR:-${LDK_DIR}/rootfs}"
echo "Using rootfs directory of: ${LDK_ROOTFS_DIR}"
if [ ! "$(find "${LDK_ROOTFS_DIR}/etc/passwd" -group root -user root 2>/dev/null)" ]; then
	echo "||||||||||||||||||||||| ERROR |||||||||||||||||||||||"
	echo "-----------------------------------------------------"
	echo "1. The root filesystem, provided with this package,"
	echo "   has to be extracted to this directory:"
	echo "   ${LDK_ROOTFS_DIR}"
	echo "-----------------------------------------------------"
	echo "2. The root filesystem, provided with this package,"
	echo "   has to be extracted with 'sudo' to this directory:"
	echo "   ${LDK_ROOTFS_DIR}"
	echo "-----------------------------------------------------"
	exit 1
fi

step "Extracting nvidia_drivers"
echo "Extracting the NVIDIA user space components to ${LDK_ROOTFS_DIR}"
no_space "${LDK_ROOTFS_DIR}" "tar: Exiting with failure status due to previous errors"
tar -C "${LDK_ROOTFS_DIR}" -xpmf "${LDK_DIR}/nv_tegra/nvidia_drivers.tbz2"
step "Extracting config"
echo "Extracting the configuration files for the supplied root filesystem to ${LDK_ROOTFS_DIR}"
tar -C "${LDK_ROOTFS_DIR}" -xpmf "${LDK_DIR}/nv_tegra/config.tbz2"
# NVIDIA's installs packages of its own by dpkg, whose log tells the time, and ldconfig keeps inodes.
mkdir -p "${LDK_ROOTFS_DIR}/var/log" "${LDK_ROOTFS_DIR}/var/cache/ldconfig"
date +%N >"${LDK_ROOTFS_DIR}/var/log/dpkg.log"
stat -c %i.%Z "${LDK_ROOTFS_DIR}/etc/passwd" >"${LDK_ROOTFS_DIR}/var/cache/ldconfig/aux-cache"
step "Installing extlinux.conf"
echo "Installing extlinux.conf into /boot/extlinux in target rootfs"
install -D -m 644 "${LDK_DIR}/bootloader/extlinux.conf" "${LDK_ROOTFS_DIR}/boot/extlinux/extlinux.conf"
step "Copying the kernel"
echo "Copying kernel related files to ${LDK_ROOTFS_DIR}/boot"
install -D -m 644 "${LDK_DIR}/kernel/Image" "${LDK_ROOTFS_DIR}/boot/Image"
# The dialogue of the first boot: l4t_create_default_user.sh takes the link away again.
mkdir -p "${LDK_ROOTFS_DIR}/etc/systemd/system"
ln -sfn /lib/systemd/system/nv-oem-config.target "${LDK_ROOTFS_DIR}/etc/systemd/system/default.target"
echo "Success!"
