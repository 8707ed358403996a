package cache

// Memory is a store in memory, bounded by bytes.
type Memory struct{}

// NewMemory builds a store that keeps at most so many bytes, bookkeeping included.
func NewMemory(bytes int64) *Memory { return &Memory{} }

func (m *Memory) Get(Key) []*Entry                                { return nil }
func (m *Memory) Put(Key, *Entry)                                 {}
func (m *Memory) Replace(Key, *Entry, *Entry) bool                { return false }
func (m *Memory) Purge(func(Key) bool) (entries int, bytes int64) { return 0, 0 }
func (m *Memory) Held() map[string]Held                           { return nil }
func (m *Memory) Close()                                          {}
