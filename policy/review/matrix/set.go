package matrix

import "math/bits"

// set is a set of the values of an axis, by their places.
type set []uint64

func newSet(size int) set { return make(set, (size+63)/64) }

func setOf(size int, members ...int) set {
	s := newSet(size)
	for _, m := range members {
		s.add(m)
	}
	return s
}

func fullSet(size int) set {
	s := newSet(size)
	for i := range size {
		s.add(i)
	}
	return s
}

func (s set) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s set) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

func (s set) addAll(o set) {
	for i := range s {
		s[i] |= o[i]
	}
}

func (s set) count() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// members are the places in order.
func (s set) members() []int {
	var list []int
	for i, w := range s {
		for ; w != 0; w &= w - 1 {
			list = append(list, i*64+bits.TrailingZeros64(w))
		}
	}
	return list
}

func (s set) appendKey(b []byte) []byte {
	for _, w := range s {
		for i := range 8 {
			b = append(b, byte(w>>(8*i)))
		}
	}
	return b
}

// box is a set on each axis: all combinations of their members.
type box []set

func (b box) has(p point) bool {
	for i, s := range b {
		if !s.has(p[i]) {
			return false
		}
	}
	return true
}

// merge unites boxes that differ on one axis only, axis after axis, the last one first.
func merge(boxes []box, axes int) []box {
	for i := range axes {
		boxes = mergeAlong(boxes, axes-1-i)
	}
	return boxes
}

func mergeAlong(boxes []box, axis int) []box {
	place := make(map[string]int, len(boxes))
	merged := boxes[:0:0]
	var key []byte
	for _, b := range boxes {
		key = key[:0]
		for i, s := range b {
			if i != axis {
				key = s.appendKey(key)
			}
		}
		if at, known := place[string(key)]; known {
			merged[at][axis].addAll(b[axis])
			continue
		}
		place[string(key)] = len(merged)
		own := append(box(nil), b...)
		own[axis] = append(set(nil), b[axis]...)
		merged = append(merged, own)
	}
	return merged
}
