package place

import (
	"cmp"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
)

// writeDatabase writes countries by network in MaxMind's format (https://maxmind.github.io/MaxMind-DB/): a binary tree of
// the bits of addresses, IPv4 below ::/96, whose leaves point to records, and a description of all at the end. With
// member "" the records are as those of GeoLite2-Country; another one gives records of something else.
func writeDatabase(networks map[string]string, member string) []byte {
	tree, data := &treeNode{}, []byte{}
	for _, text := range slices.SortedFunc(maps.Keys(networks), byLength) { // longer prefixes cut into shorter ones
		prefix := netip.MustParsePrefix(text)
		bits := prefix.Bits()
		if prefix.Addr().Is4() {
			bits += 96
		}
		tree.put(addressBits(prefix.Addr()), bits, len(data)+1)
		data = append(data, record(networks[text], member)...)
	}
	nodes := tree.number(nil)
	var file []byte
	for _, n := range nodes {
		for _, child := range n.child {
			file = append(file, pointer(child, len(nodes))...)
		}
	}
	file = append(append(file, make([]byte, 16)...), data...)
	return append(append(file, "\xab\xcd\xefMaxMind.com"...), description(len(nodes))...)
}

func byLength(a, b string) int {
	return cmp.Or(netip.MustParsePrefix(a).Bits()-netip.MustParsePrefix(b).Bits(), cmp.Compare(a, b))
}

func addressBits(a netip.Addr) [16]byte {
	if a.Is4() {
		var all [16]byte
		four := a.As4()
		copy(all[12:], four[:])
		return all
	}
	return a.As16()
}

// treeNode has either children or, as a leaf, data: the offset of its record and one.
type treeNode struct {
	child [2]*treeNode
	data  int
	index int
}

func (n *treeNode) put(address [16]byte, bits, data int) {
	for i := range bits {
		if n.data != 0 { // what this network says holds for its parts, but for the one that is being put
			n.child = [2]*treeNode{{data: n.data}, {data: n.data}}
			n.data = 0
		}
		bit := address[i/8] >> (7 - i%8) & 1
		if n.child[bit] == nil {
			n.child[bit] = &treeNode{}
		}
		n = n.child[bit]
	}
	n.data = data
}

// number lists the inner nodes, the root first.
func (n *treeNode) number(list []*treeNode) []*treeNode {
	if n == nil || n.data != 0 {
		return list
	}
	n.index = len(list)
	list = append(list, n)
	for _, child := range n.child {
		list = child.number(list)
	}
	return list
}

// pointer is a record of 24 bits.
func pointer(to *treeNode, nodes int) []byte {
	value := nodes // nothing
	switch {
	case to == nil:
	case to.data != 0:
		value = nodes + 16 + to.data - 1
	default:
		value = to.index
	}
	return binary.BigEndian.AppendUint32(nil, uint32(value))[1:]
}

func record(code, member string) []byte {
	if member == "" {
		return fields("country", fields("iso_code", text(code)))
	}
	return fields(member, text(code))
}

func description(nodes int) []byte {
	return fields("node_count", number(6, 4, nodes), "record_size", number(5, 2, 24), "ip_version", number(5, 2, 6),
		"database_type", text("Test-Country"), "languages", []byte{0, 4}, "binary_format_major_version", number(5, 2, 2),
		"binary_format_minor_version", number(5, 2, 0), "build_epoch", []byte{4, 2, 0x60, 0, 0, 0},
		"description", fields("en", text("countries for tests")))
}

// fields is a map of names and encoded values.
func fields(pairs ...any) []byte {
	b := []byte{7<<5 | byte(len(pairs)/2)}
	for i := 0; i < len(pairs); i += 2 {
		b = append(append(b, text(pairs[i].(string))...), pairs[i+1].([]byte)...)
	}
	return b
}

func text(s string) []byte { return append([]byte{2<<5 | byte(len(s))}, s...) }

func number(kind, size byte, n int) []byte {
	all := binary.BigEndian.AppendUint32(nil, uint32(n))
	return append([]byte{kind<<5 | size}, all[4-size:]...)
}
