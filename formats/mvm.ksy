meta:
  id: mvm
  title: MVM learned medical image, container version 1
  file-extension: mvm
  license: MIT
  endian: le
doc: |
  The container of mvm-1.md. What a DATA chunk holds is described in ans.md; symbols need a model's
  tables and are out of reach of this description, as are the map and the blends of flat.md, which
  are streams of answers. Not checked here: checksums (crc is CRC-32 of
  type and payload), the order of chunks and how often each may stand, that the fields of HEAD fit
  together (bits, signed and photometric with channels, lo and hi with bits), the characters of model
  and of chunk types, that the strings of teXT are even in number, and the first and last words of the
  lanes of DATA.
seq:
  - id: magic
    contents: [0x89, 0x4d, 0x56, 0x4d, 0x0d, 0x0a, 0x1a, 0x0a]
  - id: header
    type: header_chunk
  - id: chunks
    type: chunk
    repeat: eos
    doc: |
      metadata and at most one FLAT chunk in any order, then as many DATA chunks as there are frames
      times tiles, which is one
types:
  header_chunk:
    seq:
      - id: length
        type: u4
        valid: 42
      - id: type
        contents: HEAD
      - id: body
        type: head
        size: 42
      - id: crc
        type: u4
  head:
    seq:
      - id: version
        type: u1
        valid: 1
      - id: rate_index
        type: u1
        valid:
          max: 63
      - id: flags
        type: u1
        valid: 0
      - id: channels
        type: u1
        valid:
          any-of: [1, 3]
      - id: bits
        type: u1
        valid:
          min: 1
          max: 16
      - id: signed
        type: u1
        valid:
          max: 1
      - id: photometric
        type: u1
        enum: photometric
        valid:
          in-enum: true
      - id: tile_log2
        type: u1
        valid: 0
      - id: width
        type: u4
        valid:
          min: 1
          max: 0x7fffffff
      - id: height
        type: u4
        valid:
          min: 1
          max: 0x7fffffff
      - id: frames
        type: u2
        valid: 1
      - id: lo
        type: s4
      - id: hi
        type: s4
        valid:
          min: lo
      - id: model
        type: strz
        size: 8
        encoding: ASCII
      - id: fingerprint
        size: 8
    enums:
      photometric:
        0: min_is_black
        1: min_is_white
        2: rgb
        3: rgb_of_equal_channels
  chunk:
    seq:
      - id: length
        type: u4
      - id: type
        type: str
        size: 4
        encoding: ASCII
      - id: payload
        size: length
        type:
          switch-on: type
          cases:
            '"dpIX"': resolution
            '"teXT"': text
            '"FLAT"': flat
            '"DATA"': data
      - id: crc
        type: u4
    instances:
      is_critical:
        value: type.substring(0, 1) <= "Z"
        doc: the first letter is upper case
  resolution:
    seq:
      - id: x
        type: u4
        doc: thousandths of a dot per inch along rows
        valid:
          min: 1
      - id: y
        type: u4
        valid:
          min: 1
  text:
    seq:
      - id: parts
        type: strz
        encoding: UTF-8
        eos-error: false
        repeat: eos
        doc: key, value, key, value ...; an empty last value is not seen here
  flat:
    doc: flat areas, as in flat.md, of form 1 or 2
    seq:
      - id: first
        type: u1
        valid:
          any-of: [1, 2, 3, 4, 5, 6, 7, 8, 129, 130, 131, 132, 133, 134, 135, 136]
        doc: count, and 128 more in form 2
      - id: colours
        type: colour
        repeat: expr
        repeat-expr: count
        doc: of number 1 to count in the map
      - id: flat_crc
        type: u4
        doc: |
          CRC-32 of first, colours and the map, one byte for each pixel, and in form 2 the blends
          likewise; not checked here
      - id: words
        type: u4
        if: form == 2
      - id: lane
        type: u4
        repeat: expr
        repeat-expr: lane_words
        valid:
          min: '_index == lane_words - 1 ? 1 : 0'
        doc: the map, in words of which the last is not 0; there may be none
      - id: blends
        type: u4
        repeat: eos
        valid:
          min: '_io.eof ? 1 : 0'
        doc: likewise, to the end of the payload; none in form 1
    instances:
      form:
        value: 'first > 128 ? 2 : 1'
      count:
        value: first % 128
        doc: of colours
      lane_words:
        value: 'form == 2 ? words : ((_io.size - _io.pos + 3) / 4)'
        doc: |
          in form 1 the rest of the payload, rounded up, so that a rest that is not whole words is
          an error; an instance, because it counts from where the lane begins
  colour:
    seq:
      - id: samples
        type:
          switch-on: sample_type
          cases:
            0: u1
            1: s1
            2: u2
            3: s2
        repeat: expr
        repeat-expr: channels
        valid:
          min: _root.header.body.lo
          max: _root.header.body.hi
        doc: R, G and B where photometric is rgb, else one, for all channels
    instances:
      sample_type:
        value: '(_root.header.body.bits <= 8 ? 0 : 2) + _root.header.body.signed'
        doc: 0 and 1 are one byte, 2 and 3 are two; 1 and 3 are signed
      channels:
        value: '_root.header.body.photometric == head::photometric::rgb ? 3 : 1'
        doc: in a colour, which is not what HEAD says where photometric is rgb_of_equal_channels
  data:
    seq:
      - id: lane_count
        type: u1
        valid:
          any-of: [1, 2, 4, 8]
      - id: lane_words
        type: u4
        repeat: expr
        repeat-expr: lane_count - 1
      - id: symbol_crc
        type: u4
      - id: lanes
        type: lane(_index)
        repeat: expr
        repeat-expr: lane_count
  lane:
    params:
      - id: number
        type: s4
    seq:
      - id: words
        type: u4
        repeat: expr
        repeat-expr: word_count
    instances:
      word_count:
        value: '(number < _parent.lane_count - 1) ? _parent.lane_words[number] : ((_io.size - _io.pos + 3) / 4)'
        doc: |
          of the last lane the rest of the payload, rounded up, so that a rest that is not whole
          words is an error. An instance, because it counts from where the lane begins: some targets
          evaluate repeat-expr again before each word.
