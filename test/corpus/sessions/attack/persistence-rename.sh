# Written elsewhere, moved into place.
# finds: persistence-rename
call c1 'echo "x" >new; mv new ~/.profile'
