package canon

// Relaxation lets an app have spellings below some of its paths that are refused everywhere else, because two servers could
// read them differently. What they stand for then is the app's own risk, there and nowhere else.
type Relaxation struct {
	// Paths are the folders below which it holds, such as /api/v4/projects/. Each starts and ends with a slash. Required.
	Paths []string `yaml:"paths" config:"required,single"`
	// Allow are the spellings. Required.
	Allow []Spelling `yaml:"allow" config:"required,single"`
}

// Spelling is a way to write a path that has more than one reading.
type Spelling string

// The spellings that an app can ask for.
const (
	EncodedSlash Spelling = "encoded_slash" // %2F within a segment
)
