package canon

import "fmt"

// Relaxation lets an app have spellings below some of its folders that are refused everywhere else, because two servers
// could read them differently. Whichever way they are read, they lead nowhere outside the folder; inside it, rules about
// single paths may be got round, so they are the app's own risk there.
type Relaxation struct {
	// Paths are the folders below which it holds, such as /api/v4/projects/: each starts and ends with a slash and lies
	// within the app's path, as browsers see it. Up to there a request is spelt as everywhere else. Required.
	Paths []Folder `yaml:"paths" config:"required,single"`
	// Allow are the spellings: "encoded_slash" is %2F within a segment, "double_slash" an empty segment,
	// "path_parameter" a semicolon in a segment, "percent" is %25, and "query_semicolon" a semicolon in the query.
	// Required.
	Allow []Spelling `yaml:"allow" config:"required,single" enum:"encoded_slash,double_slash,path_parameter,percent,query_semicolon"`
}

// Folder is a path that starts and ends with a slash and has one reading, written as it is.
type Folder string

// UnmarshalText accepts folders.
func (f *Folder) UnmarshalText(text []byte) error {
	path := string(text)
	if path == "" || path[0] != '/' || path[len(path)-1] != '/' {
		return fmt.Errorf("%q must start and end with a slash", path)
	}
	if plain, refused := strictPath(path); refused != nil || EscapePath(plain) != path {
		return fmt.Errorf("%q must hold only plain segments: nothing that is written in more than one way", path)
	}
	*f = Folder(path)
	return nil
}

// Spelling is a way to write a request target that has more than one reading.
type Spelling string

// The spellings that an app can ask for.
const (
	EncodedSlash     Spelling = "encoded_slash"   // %2F within a segment
	DoubleSlash      Spelling = "double_slash"    // an empty segment
	PathSemicolon    Spelling = "path_parameter"  // ";" or %3B in a segment
	Percent          Spelling = "percent"         // %25
	SemicolonInQuery Spelling = "query_semicolon" // ";" in the query
)

// Risk is what an app takes upon itself with a spelling, in one line.
func (s Spelling) Risk() string {
	switch s {
	case EncodedSlash:
		return "an app that decodes before it splits takes %2F for a slash, so rules about paths deeper in the folder can be got round"
	case DoubleSlash:
		return "an app that merges slashes takes // for one, so rules about paths deeper in the folder can be got round"
	case PathSemicolon:
		return "an app that cuts segments at a semicolon sees shorter names, and what stands behind it, such as session ids, is recorded"
	case Percent:
		return "an app that decodes twice sees other names than the policy"
	case SemicolonInQuery:
		return "an app that splits the query at semicolons finds parameters that the policy took for parts of a value"
	}
	panic("BUG: no such spelling: " + string(s))
}

// bit is the spelling's place in an allowance.
func (s Spelling) bit() allowance {
	switch s {
	case EncodedSlash:
		return allowSlash
	case DoubleSlash:
		return allowEmpty
	case PathSemicolon:
		return allowParameter
	case Percent:
		return allowPercent
	case SemicolonInQuery:
		return allowQuerySemicolon
	}
	panic("BUG: no such spelling: " + string(s))
}
