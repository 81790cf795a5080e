# Hundreds of the project's files go at once.
# finds: mass-destruction
call c1 'rm -rf assets'
