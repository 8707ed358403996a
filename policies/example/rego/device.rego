# METADATA
# scope: package
# title: Devices
# description: What we believe of the device that somebody works on. Facts that nobody knows are absent, hence not true.
# authors:
# - Platform <platform@corp.example>
package corp.device

# trusted: it is ours, up to date, and its disk is encrypted.
trusted if {
	input.subject.device.managed
	input.subject.device.compliant
	input.subject.device.encrypted
}
