package corp.device_test

import data.corp.device

good := {"managed": true, "compliant": true, "encrypted": true}

test_a_good_device_is_trusted if device.trusted with input.subject.device as good

# Each fact counts, and so does not knowing it.
test_one_fact_short[fact] if {
	some fact, _ in good
	not device.trusted with input.subject.device as object.remove(good, [fact])
	not device.trusted with input.subject.device as object.union(good, {fact: false})
}

test_nothing_is_known if not device.trusted with input.subject as {"type": "user"}
