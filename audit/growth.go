package audit

import (
	"sync"

	"sallyport/audit/segment"
	"sallyport/audit/tree"
)

// maxLeaves is how many leaf hashes wait in memory, 4 MiB of them, for whoever writes the tree down. When they are more,
// as while the key process does not answer, they are forgotten: the segments have the records.
const maxLeaves = 1 << 17

// growth is the tree of a log's acknowledged records: its frontier, and the leaf hashes of the newest.
//
// Hashing has a goroutine of its own, so that it happens while the committer waits for the disk: of two frames one is
// filled and made durable while the other is hashed. It never waits for a disk itself.
type growth struct {
	frames chan []byte   // acknowledged ones, in order
	spare  chan []byte   // the frame that the committer fills next
	grown  chan struct{} // holds one when there are as many leaves as were wished for
	done   chan struct{} // closed when the goroutine is gone

	mu     sync.Mutex
	caught sync.Cond // the frontier has changed
	wish   uint64    // a size
	after  tree.Frontier
	leaves []tree.Hash // the last ones of after
}

func newGrowth(before tree.Frontier) *growth {
	g := &growth{
		frames: make(chan []byte, 1), spare: make(chan []byte, 1),
		grown: make(chan struct{}, 1), done: make(chan struct{}), after: before,
	}
	g.caught.L = &g.mu
	g.spare <- newFrame()
	return g
}

// newFrame is the memory of a frame: large, because the allocator aligns that to a page, as direct writing wants it.
func newFrame() []byte { return make([]byte, 0, 64<<10) }

// run hashes frames until there are no more.
func (g *growth) run() {
	defer close(g.done)
	var leaves []tree.Hash
	for frame := range g.frames {
		leaves = hashFrame(leaves[:0], frame)
		g.spare <- frame
		g.add(leaves)
	}
}

// end waits until all frames are hashed; none may follow.
func (g *growth) end() {
	close(g.frames)
	<-g.done
}

// follow takes an acknowledged frame and returns another one to fill.
func (g *growth) follow(frame []byte) []byte {
	g.frames <- frame
	return <-g.spare
}

func hashFrame(leaves []tree.Hash, frame []byte) []tree.Hash {
	for line := range segment.Lines(frame) {
		leaves = append(leaves, tree.HashLeaf(line))
	}
	return leaves
}

func (g *growth) add(leaves []tree.Hash) {
	g.mu.Lock()
	for _, leaf := range leaves {
		g.after.Append(leaf)
	}
	if len(g.leaves)+len(leaves) > maxLeaves {
		g.leaves = g.leaves[:0]
	}
	g.leaves = append(g.leaves, leaves...)
	granted := g.wish > 0 && g.after.Size() >= g.wish
	if granted {
		g.wish = 0
	}
	g.mu.Unlock()
	g.caught.Broadcast()
	if granted {
		g.signal()
	}
}

func (g *growth) signal() {
	select {
	case g.grown <- struct{}{}:
	default:
	}
}

// want has grown signalled, once, when the tree has that size.
func (g *growth) want(size uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wish = size
	if g.after.Size() >= size {
		g.wish = 0
		g.signal()
	}
}

// at is the tree of the first size records, which is all that are acknowledged: it waits for the last to be hashed.
func (g *growth) at(size uint64) tree.Frontier {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.after.Size() < size {
		g.caught.Wait()
	}
	return g.after.Clone()
}

// await waits until that many records are hashed, all of them acknowledged, and returns how many are.
func (g *growth) await(size uint64) uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.after.Size() < size {
		g.caught.Wait()
	}
	return g.after.Size()
}

// size is how many records are hashed.
func (g *growth) size() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.after.Size()
}

// take moves the leaves from index first on to into, which it returns; false when there are none from there on, because
// they were forgotten or never were in memory. size is the size of the tree with them.
func (g *growth) take(first uint64, into []tree.Hash) (leaves []tree.Hash, size uint64, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	size = g.after.Size()
	from := size - uint64(len(g.leaves))
	if first < from {
		return into[:0], size, false
	}
	leaves = append(into[:0], g.leaves[first-from:]...)
	g.leaves = g.leaves[:0]
	return leaves, size, true
}
